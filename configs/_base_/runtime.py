"""What every run shares: logs, checkpoints, records, seeds."""
default_scope = 'kovilt'
default_hooks = dict(
    runtime_info=dict(type='StepInfoHook'),
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),   # two: one is whole while one is written
    exact_resume=dict(type='ExactResumeHook'),
    epoch_time=dict(type='EpochTimeHook'),
    run_record=dict(type='RunRecordHook', interval=50),
    # an average of the weights, evaluated and saved in their place:
    # ema=dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-3),
)
log_processor = dict(type='BriefLogProcessor', window_size=50)
# TensorBoard beside the text logs (pip install tensorboard):
# visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)   # ViLT's
