"""Fine-tuning on Rooms questions from random weights, to see what pre-training contributes.

Data: kovilt rooms data/rooms --images 2000
Expected: 39.2 % after 1,500 steps on 10,000 images, 28.9 points below rooms/vqa.py (docs/en/reproduction.md).
Time: about 10 minutes on two CPU cores.
Command: kovilt train rooms/vqa_scratch --amp
"""
_base_ = './vqa.py'
load_from = None
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(head_lr_mult=1.0))     # no pre-training to preserve
