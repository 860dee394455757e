"""Distillation on Rooms: a student with half the layers of the packaged model `rooms` learns from its scores.

Data: kovilt rooms data/rooms --images 2000
    kovilt distill rooms rooms/vqa_distill --out work_dirs/teacher.arrow
    KOVILT_ROOMS names another folder of Rooms, KOVILT_TEACHER another file of a teacher's answers.
Expected: 62.6 % after 1,000 steps on 20,000 questions, 62.1 % from labels alone; of 3,000 questions 45.0 and 42.9 %
    (docs/en/distillation.md).
Time: about 5 minutes on two CPU cores.
Command: kovilt train rooms/vqa_distill --amp
"""
import os

_base_ = './vqa.py'
text_pipeline = [dict(type='TokenizeKorean', tokenizer='rooms', max_text_len=40)]
train_dataloader = dict(dataset=dict(
    text_pipeline=text_pipeline,
    teacher_answers=os.environ.get('KOVILT_TEACHER', 'work_dirs/teacher.arrow')))
val_dataloader = dict(dataset=dict(text_pipeline=text_pipeline))
model = dict(
    encoder=dict(num_layers=2),
    vqa_head=dict(distillation_weight=0.5, distillation_temperature=2.0))
load_from = 'rooms'                                        # the teacher's embeddings and the first two of its layers
load_encoder_only = True
custom_hooks = []                                          # [CLS] is that of a model which answers
