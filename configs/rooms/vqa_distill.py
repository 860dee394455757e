"""Distillation on Rooms: a student of half the width and depth learns from the scores of the packaged model `rooms`.

Data: kovilt rooms data/rooms --images 2000
    kovilt distill rooms rooms/vqa --out work_dirs/teacher.arrow
    KOVILT_ROOMS names another folder of Rooms, KOVILT_TEACHER another file of a teacher's answers.
Expected: not measured at this length; above the same student trained on the labels alone (docs/en/distillation.md).
Time: about 5 minutes on two CPU cores.
Command: kovilt train rooms/vqa_distill --amp
"""
import os

_base_ = './vqa.py'
model = dict(
    encoder=dict(hidden_size=96, num_layers=2, num_heads=3),
    vqa_head=dict(distillation_weight=0.5, distillation_temperature=2.0))
train_dataloader = dict(dataset=dict(
    teacher_answers=os.environ.get('KOVILT_TEACHER', 'work_dirs/teacher.arrow')))
load_from = None
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(head_lr_mult=1.0))     # no pre-training to preserve
