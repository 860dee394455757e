"""Fine-tuning of 24 steps that the fault suite hurts: two layers of width 32, dropout, a checkpoint every 3 steps.

Command: python -m benchmarks.faults F01
"""

import os

_base_ = '../../../configs/rooms/vqa.py'
custom_imports = dict(imports=['benchmarks.faults.hooks', 'benchmarks.faults.backend'])
custom_hooks = [dict(type='FaultHook')]
load_from = None

# Model and data: 64 pairs, so that an epoch has 8 steps
tokenizer = os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/tokenizer'
images = [dict(type='LoadImage'), dict(type='ResizeViLT', short=64, long=107), dict(type='Patchify')]
texts = [dict(type='TokenizeKorean', tokenizer=tokenizer, max_text_len=24)]
model = dict(
    encoder=dict(
        hidden_size=32, num_layers=2, num_heads=2, patch_size=16, image_size=64, max_text_len=24, drop_rate=0.1
    )
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(image_pipeline=images, text_pipeline=texts, answers=dict(min_count=2), limit=64, cache_images=False),
)
val_dataloader = dict(batch_size=16, num_workers=0, dataset=dict(image_pipeline=images, text_pipeline=texts))

# Schedule
train_cfg = dict(max_iters=24, val_interval=6)
default_hooks = dict(
    logger=dict(interval=3), run_record=dict(interval=1), checkpoint=dict(interval=3, max_keep_ckpts=2)
)
