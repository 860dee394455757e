"""Fine-tuning with a moving average of the weights, which is evaluated and saved in their place.

Data: as kovilt_vqa_aihub.py.
Expected: not measured.
Time: as kovilt_vqa_aihub.py.
Command: bash tools/dist_train.sh ablations/vqa_ema 8 --amp
"""
_base_ = '../kovilt_vqa_aihub.py'
default_hooks = dict(ema=dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4))
