"""A small METER on Rooms questions from random weights, beside vqa_scratch.py.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Command: python tools/train.py configs/rooms/meter_vqa.py --amp
"""
_base_ = ['../_base_/runtime_steps.py', '../_base_/models/meter.py',
          '../_base_/datasets/rooms_vqa.py', '../_base_/schedules/rooms.py']
images = [
    dict(type='LoadImage'),
    dict(type='CropSquare', side=96),
    dict(type='Patchify', patch_size=16)]
model = dict(encoder=dict(
    image_encoder=dict(arch=dict(embed_dims=192, num_layers=3, num_heads=6, feedforward_channels=768)),
    text_encoder=dict(hidden_size=192, num_layers=3, num_heads=6, drop_rate=0.0),
    image_size=96, max_text_len=40, hidden_size=192, num_layers=2, num_heads=6, drop_rate=0.0, init_std=0.05))
train_dataloader = dict(dataset=dict(image_pipeline=images))
val_dataloader = dict(dataset=dict(image_pipeline=images))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=5e-4, betas=(0.9, 0.98), weight_decay=0.05))
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
