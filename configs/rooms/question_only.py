"""Rooms questions without their images, from random weights: what language alone can answer.

Data: kovilt rooms data/rooms --images 2000
Expected: 31.1 % after 1,500 steps on 10,000 images; the most frequent answer alone reaches 12.5 %
    (docs/en/reproduction.md).
Time: about 4 minutes on two CPU cores.
Command: kovilt train rooms/question_only --amp
"""
_base_ = './vqa.py'
load_from = None
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(head_lr_mult=1.0))     # as rooms/vqa_scratch.py
train_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
val_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
