"""Multiple choice on Rooms, from the shipped encoder and its matching head.

Data: kovilt rooms data/rooms --images 2000 --choices
    KOVILT_ROOMS names another folder.
Expected: 73.8 % after 1,000 steps on 10,000 images; 58.5 % before any training, by
    kovilt test rooms/choice rooms_encoder; 31.4 % at random (docs/en/multiple_choice.md).
Time: that of rooms/vqa.py, times the options of a question: three on average.
Command: kovilt train rooms/choice --amp
"""
import os

_base_ = ['../_base_/runtime.py', '../_base_/models/vilt_rooms.py']

# Data
data_root = os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/choices'
reader = dict(type='ChoiceReader', data_root=data_root, allow_outside=True)            # the images lie beside it
text_pipeline = [dict(type='TokenizeKorean', tokenizer='rooms_encoder', max_text_len=40)]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(type='ChoiceDataset', reader=reader, text_pipeline=text_pipeline))
val_dataloader = dict(
    batch_size=64,
    dataset=dict(type='ChoiceDataset', reader=reader, text_pipeline=text_pipeline, keep_record=True))
val_evaluator = dict(type='VQAAccuracy')

# Objective: the options of a question compete
model = dict(type='ViLTForMultipleChoice', choice_head=dict(type='ChoiceHead'))
load_from = 'rooms_encoder'                                # its matching (ITM) head becomes the choice head

# Schedule, counted in steps
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor', clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='MuonAdamW', lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05))
param_scheduler = dict(type='WarmupLinearLR', warmup=0.05, by_epoch=False)
train_cfg = dict(type='StepTrainLoop', max_iters=2000, val_interval=1000)
val_cfg = dict()
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=500, save_best='accuracy', rule='greater'))
log_processor = dict(by_epoch=False)
