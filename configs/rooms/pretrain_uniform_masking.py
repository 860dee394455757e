"""Last stage of pre-training: mask all words equally often, so that colours, places and numbers are learned as well.

Data: kovilt rooms data/rooms --images 2000
    and the checkpoint of rooms/pretrain.py.
Expected: on 16,000 images 80.1 % of the masked words and 93.1 % of the pairs after 1,350 steps (docs/en/benchmarks.md).
Time: about a quarter of an hour on two CPU cores.
Command: kovilt train rooms/pretrain_uniform_masking --amp
    --load-from work_dirs/pretrain/iter_2000.pth
"""
_base_ = './pretrain.py'
model = dict(mlm_head=dict(mask_ratio=0.35, content_ratio=0.35))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
