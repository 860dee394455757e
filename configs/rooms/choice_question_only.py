"""Multiple choice on Rooms without images, from random weights: what questions and options alone tell.

Data: kovilt rooms data/rooms --images 2000 --choices
Expected: 31.7 % after 1,000 steps on 10,000 images; 31.4 % at random (docs/en/multiple_choice.md).
Time: a fraction of rooms/choice.py, as there are no patches.
Command: kovilt train rooms/choice_question_only --amp
"""
_base_ = './choice.py'
load_from = None
optim_wrapper = dict(optimizer=dict(lr=2e-3))                                           # as rooms/question_only.py
train_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
val_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
