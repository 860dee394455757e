"""AI-Hub 101, 생활 및 거주환경 기반 VQA: the paper's questions.

KOVILT_AIHUB_101 names another folder, KOVILT_TOKENIZER another tokenizer.
"""
data_root = '{{$KOVILT_AIHUB_101:data/aihub_101}}'
tokenizer = '{{$KOVILT_TOKENIZER:kykim/bert-kor-base}}'   # the paper's Korean WordPiece (LMkor); a folder works too

image_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeViLT', short=384, long=639, divisor=32),   # ViLT's rule: int(1333 / 800 * 384) = 639
    dict(type='Patchify', patch_size=32)]
text_pipeline = [dict(type='TokenizeKorean', tokenizer=tokenizer, max_text_len=40)]   # ViLT 4.1

train_dataloader = dict(
    batch_size=32, num_workers=4, persistent_workers=True,      # 8 processes x 32 = 256
    dataset=dict(
        type='AIHubLivingVQA', data_root=data_root, split='train',
        answers=dict(min_count=6),                              # the paper: those seen 5 times or fewer removed
        image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=True),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate', micro_batches=1))       # more: the same steps in less memory
val_dataloader = dict(
    batch_size=128, num_workers=4,
    dataset=dict(
        type='AIHubLivingVQA', data_root=data_root, split='val', test_mode=True, keep_record=True,
        image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=False),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate'))
val_evaluator = dict(type='VQAAccuracy')
