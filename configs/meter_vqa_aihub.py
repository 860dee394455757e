"""METER on AI-Hub 101, the paper's baseline: 24 hours an epoch against ViLT's 2.

Data: AI-Hub 101, as kovilt_vqa_aihub.py; CLIP for the image encoder and a BERT for the text encoder, from the hub or
    from the folders that KOVILT_CLIP and KOVILT_TOKENIZER name. Or start from a checkpoint of meter_pretrain_coco.py
    with --load-from FILE; its positions for 288 pixels are resized to 576.
Expected: 85.24 % (paper). By arithmetic a pair costs 10 to 14 times as much as ViLT's at METER's own 576 pixels, 4 to 6
    times as much at 384; benchmarks/vilt_against_meter.py measures it.
Time: the paper took 24 hours an epoch.
Command: bash tools/dist_train.sh meter_vqa_aihub 8 --amp
"""
import os

_base_ = ['./_base_/runtime.py', './_base_/models/meter_base.py']

# Data
data_root = os.environ.get('KOVILT_AIHUB_101', 'data/aihub_101')
reader = dict(type='AIHubLivingReader', data_root=data_root)
train_dataloader = dict(
    batch_size=64, num_workers=4, persistent_workers=True,             # 8 processes x 64 = METER's 512
    dataset=dict(
        type='QuestionDataset', reader=reader,
        answers=dict(min_count=6)),                                    # the paper removes those seen 5 times or fewer
    collate_fn=dict(micro_batches=8))                                  # 1,297 tokens an image: 8 pairs in memory
val_dataloader = dict(
    batch_size=32, num_workers=4,
    dataset=dict(type='QuestionDataset', reader=reader, keep_record=True))
val_evaluator = dict(type='VQAAccuracy')

# Objective: answers as classes
model = dict(
    type='METERForVQA',
    vqa_head=dict(
        type='VQAHead',
        num_answers=None,                                              # the training set's
        loss='cross_entropy'))                                         # one answer a question

# Schedule: METER's configuration for VQAv2
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-6, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(head_prefixes=['vqa_head'], head_lr_mult=50.0, lr_mults={'encoder.cross_modal': 5.0}))
param_scheduler = dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=10)
val_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=512)
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
