"""Pre-training of a small METER on Rooms captions, from random weights.

Data: kovilt rooms data/rooms --images 2000
Expected: not measured; mlm_accuracy and itm_accuracy rise.
Time: not measured; each pair takes two passes, in rooms/meter_vqa.py one.
Command: kovilt train rooms/meter_pretrain --amp
    Then: kovilt train rooms/meter_vqa --amp --load-from work_dirs/meter_pretrain/iter_2000.pth
"""
import os

_base_ = ['../_base_/runtime.py', '../_base_/models/meter_rooms.py']

# Data
data_root = os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/captions'
reader = dict(type='AIHubCOCOKoreanReader', data_root=data_root)
train_dataloader = dict(batch_size=64, dataset=dict(type='PairDataset', reader=reader))
val_dataloader = dict(
    batch_size=128,
    dataset=dict(type='PairDataset', reader=reader),
    sampler=dict(texts_per_image=1))
val_evaluator = dict(type='PretrainingMetrics')

# Objectives
model = dict(
    type='METERForPreTraining',
    mlm_head=dict(
        type='MLMHead',
        mask_token_id=None, special_token_ids=None,        # the tokenizer's
        mask_ratio=0.15, whole_word=True, loss_weight=1.0),
    itm_head=dict(type='ITMHead', loss_weight=1.0))

# Schedule, counted in steps
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor', clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), weight_decay=0.05))
param_scheduler = dict(type='WarmupLinearLR', warmup=0.05, by_epoch=False)
train_cfg = dict(type='StepTrainLoop', max_iters=2000, val_interval=1000)
val_cfg = dict()
default_hooks = dict(logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
