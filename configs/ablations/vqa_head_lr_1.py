"""Fine-tuning with the same learning rate for the answer head as for the encoder, not ten times as much.

Data: as kovilt_vqa_aihub.py.
Expected: on Rooms, 1.0 instead of 3.0 changes accuracy by +1.19 points (+0.39 to +2.00) (docs/en/reproduction.md).
Time: as kovilt_vqa_aihub.py.
Command: bash tools/dist_train.sh ablations/vqa_head_lr_1 8 --amp
"""
_base_ = '../kovilt_vqa_aihub.py'
optim_wrapper = dict(paramwise_cfg=dict(head_lr_mult=1.0))
