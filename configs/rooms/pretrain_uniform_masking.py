"""The last steps of pre-training: all words hidden alike, so that colours, places and numbers are asked for as well.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Command: python tools/train.py configs/rooms/pretrain_uniform_masking.py --amp
    --load-from work_dirs/pretrain/iter_2000.pth
"""
_base_ = './pretrain.py'
model = dict(mlm_head=dict(mask_ratio=0.35, content_ratio=0.35))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
