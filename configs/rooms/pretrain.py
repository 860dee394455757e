"""Pre-training on Rooms captions.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Command: python tools/train.py configs/rooms/pretrain.py
"""
_base_ = ['../_base_/runtime_steps.py', '../_base_/models/pretraining.py',
          '../_base_/datasets/rooms_captions.py', '../_base_/schedules/rooms.py']
model = dict(
    encoder=dict(
        hidden_size=128, num_layers=4, num_heads=4, patch_size=16, image_size=96, drop_rate=0.0,
        activation='relu', init_std=0.05, pos_init='sincos'),
    matching_every=4,                                  # masked words teach it to look; matching is learned on the way
    mlm_head=dict(mask_ratio=0.4),                     # of short captions: more to look for in each
    wpa_head=dict(loss_weight=0.5, mismatched='push'))
