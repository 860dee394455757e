"""Rooms questions with an answer head of your own, from random weights.

Command: PYTHONPATH=examples/plugin kovilt train examples/plugin/cosine_head.py
"""
_base_ = '../../configs/rooms/vqa.py'
custom_imports = dict(imports=['my_parts'], allow_failed_imports=False)
model = dict(vqa_head=dict(_delete_=True, type='CosineVQAHead', num_answers=None, temperature=0.1))
load_from = None
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(head_lr_mult=1.0))
