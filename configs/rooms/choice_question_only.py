"""Multiple choice on Rooms without images, from random weights: what questions and options alone tell.

Data: kovilt rooms data/rooms --images 2000 --choices
Expected: about what options at random reach (docs/en/multiple_choice.md).
Time: about 5 minutes on two CPU cores.
Command: kovilt train rooms/choice_question_only --amp
"""
_base_ = './choice.py'
load_from = None
optim_wrapper = dict(optimizer=dict(lr=2e-3))                                           # as rooms/question_only.py
train_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
val_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
