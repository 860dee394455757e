"""Hooks, logs, checkpoints and the seed of every run."""
default_scope = 'kovilt'
default_hooks = dict(
    runtime_info=dict(type='StepInfoHook'),
    nonfinite=dict(type='NonFiniteHook', action='stop'),
    logger=dict(type='RunLoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),   # two: one stays valid while one is written
    exact_resume=dict(type='ExactResumeHook'),
    interrupt=dict(type='InterruptHook'),   # saves at SIGTERM, SIGINT, SIGUSR1; max_time='11:30:00'
    epoch_time=dict(type='EpochTimeHook'),
    run_record=dict(type='RunRecordHook', interval=50))
log_processor = dict(type='BriefLogProcessor', window_size=50)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)   # ViLT's
