"""As vqa.py beside it, counted in epochs, with averaged weights (EMA).

Command: python -m benchmarks.faults F17
"""

_base_ = 'vqa.py'
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=3)
default_hooks = dict(
    checkpoint=dict(by_epoch=True, interval=1),
    logger=dict(log_metric_by_epoch=True),
    ema=dict(type='EMAHook', momentum=0.1),
)
log_processor = dict(by_epoch=True)
