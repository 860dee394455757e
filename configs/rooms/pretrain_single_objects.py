"""First stage of pre-training: learn the names of objects from images that show one object each.

Data: kovilt rooms data/rooms --images 2000
      kovilt rooms data/rooms_alone --images 2000 --alone 1 --seed 1
    KOVILT_ROOMS (tokenizer, validation) and KOVILT_ROOMS_ALONE (training) name other folders.
Expected: on 8,000 images 90.9 % of the masked words after 2,000 steps (docs/en/benchmarks.md).
Time: about a quarter of an hour on two CPU cores.
Command: kovilt train rooms/pretrain_single_objects --amp
"""
import os

_base_ = './pretrain.py'
model = dict(
    matching_every=16,                                     # captions of single objects differ little: less to match
    wpa_head=dict(loss_weight=0.1))                        # 4 pairs of 64 at weight 1 are noise: docs/en/benchmarks.md
train_dataloader = dict(dataset=dict(reader=dict(
    data_root=os.environ.get('KOVILT_ROOMS_ALONE', 'data/rooms_alone') + '/captions')))
