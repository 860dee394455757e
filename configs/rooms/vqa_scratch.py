"""Fine-tuning on Rooms questions from random weights: what pre-training is worth.

Command: python tools/train.py configs/rooms/vqa_scratch.py --amp
"""
_base_ = './vqa.py'
load_from = None
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(head_lr_mult=1.0))     # there is nothing to undo
