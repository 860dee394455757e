"""ViLT's pre-training schedule."""
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01))   # ViLT 4.2, its config
param_scheduler = dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False)                   # ViLT 4.2, then linear to 0
train_cfg = dict(by_epoch=True, max_epochs=40)   # as often as ViLT's 100k steps pass over its captions (42 times)
val_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=4096)
