"""Questions of Rooms, in AI-Hub 101's layout: python tools/data/make_rooms.py data/rooms --images N

KOVILT_ROOMS names another folder.
"""
data_root = '{{$KOVILT_ROOMS:data/rooms}}'

image_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeViLT', short=96, long=159, divisor=16),    # ViLT's rule at a quarter: int(1333 / 800 * 96) = 159
    dict(type='Patchify', patch_size=16)]
text_pipeline = [dict(type='TokenizeKorean', tokenizer=f'{data_root}/tokenizer', max_text_len=40)]

train_dataloader = dict(
    batch_size=64, num_workers=0,                       # kept images cost no time
    dataset=dict(
        type='AIHubLivingVQA', data_root=f'{data_root}/vqa', split='train', cache_images=True,
        answers=dict(min_count=6),
        image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=True, texts_per_image=1),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate', micro_batches=1))
val_dataloader = dict(
    batch_size=256, num_workers=1,
    dataset=dict(
        type='AIHubLivingVQA', data_root=f'{data_root}/vqa', split='val', test_mode=True, keep_record=True,
        image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=False),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate'))
val_evaluator = dict(type='VQAAccuracy')
