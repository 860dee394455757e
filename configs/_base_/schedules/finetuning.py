"""ViLT's schedule for VQAv2."""
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),   # ViLT 4.2 and its config
    paramwise_cfg=dict(head_prefixes=['vqa_head'], head_lr_mult=10.0))                       # ViLT's config for VQAv2
param_scheduler = dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False)                    # 10 %, then linear to 0
train_cfg = dict(by_epoch=True, max_epochs=10)                                               # ViLT 4.2
val_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=256)
