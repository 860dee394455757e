"""AI-Hub 261, five Korean captions for each MS COCO image: the paper's pre-training data.

KOVILT_AIHUB_261 names another folder, KOVILT_TOKENIZER another tokenizer.
"""
data_root = '{{$KOVILT_AIHUB_261:data/aihub_261}}'
tokenizer = '{{$KOVILT_TOKENIZER:kykim/bert-kor-base}}'   # the paper's Korean WordPiece (LMkor); a folder works too

image_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeViLT', short=384, long=639, divisor=32),   # ViLT's rule: int(1333 / 800 * 384) = 639
    dict(type='Patchify', patch_size=32)]
text_pipeline = [dict(type='TokenizeKorean', tokenizer=tokenizer, max_text_len=40)]   # ViLT 4.1

train_dataloader = dict(
    batch_size=512, num_workers=8, persistent_workers=True,     # 8 processes x 512 = 4096, ViLT's batch
    dataset=dict(
        type='AIHubCOCOKorean', data_root=data_root, split='train',
        image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=True),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate', micro_batches=8))       # 64 pairs in memory at a time
val_dataloader = dict(
    batch_size=64, num_workers=4,
    dataset=dict(
        type='AIHubCOCOKorean', data_root=data_root, split='val', test_mode=True,
        image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=False, texts_per_image=1),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate'))
val_evaluator = dict(type='PretrainingMetrics')
