"""The answer head learns as fast as the body, not ten times as fast.

bash tools/dist_train.sh configs/ablations/vqa_head_lr_1.py 8 --amp
"""
_base_ = '../kovilt_vqa_aihub.py'
optim_wrapper = dict(paramwise_cfg=dict(head_lr_mult=1.0))
