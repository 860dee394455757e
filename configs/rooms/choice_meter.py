"""The questions of rooms/choice.py answered by a small METER, from its matching head.

Data: kovilt rooms data/rooms --images 2000 --choices
    and the checkpoint of rooms/meter_pretrain.py.
Expected: 51.6 % after 1,000 steps on 10,000 images; 50.3 % before that training (docs/en/multiple_choice.md).
Time: about 20 minutes on one CPU core.
Command: kovilt train rooms/choice_meter --amp
"""
import os

_base_ = ['../_base_/runtime.py', '../_base_/models/meter_rooms.py']

# Data
data_root = os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/choices'
reader = dict(type='ChoiceReader', data_root=data_root, allow_outside=True)            # the images lie beside it
train_dataloader = dict(batch_size=32, dataset=dict(type='ChoiceDataset', reader=reader))
val_dataloader = dict(batch_size=64, dataset=dict(type='ChoiceDataset', reader=reader, keep_record=True))
val_evaluator = dict(type='VQAAccuracy')

# Objective: the options of a question compete
model = dict(type='METERForMultipleChoice', choice_head=dict(type='ChoiceHead'))
load_from = 'work_dirs/meter_pretrain/iter_2000.pth'       # its matching (ITM) head becomes the choice head

# Schedule, counted in steps
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor', clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.98), weight_decay=0.05))        # 1e-3 undoes pre-training
param_scheduler = dict(type='WarmupLinearLR', warmup=0.05, by_epoch=False)
train_cfg = dict(type='StepTrainLoop', max_iters=2000, val_interval=1000)
val_cfg = dict()
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=500, save_best='accuracy', rule='greater'))
log_processor = dict(by_epoch=False)
