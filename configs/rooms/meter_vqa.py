"""A small METER on Rooms questions from random weights, to compare with rooms/vqa_scratch.py.

Data: kovilt rooms data/rooms --images 2000
Expected: 34.4 % after 1,500 steps on 10,000 images, 4.8 points below rooms/vqa_scratch.py (docs/en/reproduction.md).
Time: about a quarter of an hour on two CPU cores.
Command: kovilt train rooms/meter_vqa --amp
"""
import os

_base_ = ['../_base_/runtime.py', '../_base_/models/meter_rooms.py']

# Data
data_root = os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/vqa'
reader = dict(type='AIHubLivingReader', data_root=data_root)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(type='QuestionDataset', reader=reader, answers=dict(min_count=6)))
val_dataloader = dict(batch_size=256, dataset=dict(type='QuestionDataset', reader=reader, keep_record=True))
val_evaluator = dict(type='VQAAccuracy')

# Objective: answers as classes
model = dict(
    type='METERForVQA',
    vqa_head=dict(
        type='VQAHead',
        num_answers=None,                                  # the training set's
        loss='cross_entropy'))

# Schedule, counted in steps
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor', clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), weight_decay=0.05))   # 2e-3 does not train it
param_scheduler = dict(type='WarmupLinearLR', warmup=0.05, by_epoch=False)
train_cfg = dict(type='StepTrainLoop', max_iters=2000, val_interval=1000)
val_cfg = dict()
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=500, save_best='accuracy', rule='greater'))
log_processor = dict(by_epoch=False)
