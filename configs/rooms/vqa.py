"""Fine-tuning on Rooms questions from the body of rooms/pretrain_uniform_masking.py.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Command: python tools/train.py configs/rooms/vqa.py --amp
"""
_base_ = ['../_base_/runtime_steps.py', '../_base_/models/vqa.py',
          '../_base_/datasets/rooms_vqa.py', '../_base_/schedules/rooms.py']
model = dict(encoder=dict(
    hidden_size=192, num_layers=4, num_heads=6, patch_size=16, image_size=96, drop_rate=0.0,
    activation='relu', init_std=0.05, pos_init='sincos'))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),                               # faster steps undo what pre-training has made
    paramwise_cfg=dict(head_prefixes=['vqa_head'], head_lr_mult=3.0))
custom_hooks = [dict(type='InitCLSFromMaskHook')]
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
load_from = 'work_dirs/pretrain_uniform_masking/iter_2000.pth'
