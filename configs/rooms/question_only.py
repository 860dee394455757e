"""Rooms questions without their images: how far language alone goes.

Command: python tools/train.py configs/rooms/question_only.py --amp
"""
_base_ = './vqa_scratch.py'
train_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
val_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
