"""Pre-training on shards of webdataset: images with Korean captions in tars.

Data: data/webdataset or the folder that KOVILT_WEBDATASET names, with 00000.tar, ... of a.jpg and a.txt (or a.json with
    a caption); one pair in a hundred is the validation split, if no shard is called val. See docs/en/formats.md.
Expected: as kovilt_pretrain_coco.py.
Time: in proportion to the number of pairs; an epoch of kovilt_pretrain_coco.py has about 600,000.
Command: KOVILT_WEBDATASET=FOLDER bash tools/dist_train.sh kovilt_pretrain_webdataset 8 --amp
"""
import os

_base_ = './kovilt_pretrain_coco.py'
data_root = os.environ.get('KOVILT_WEBDATASET', 'data/webdataset')
reader = dict(type='WebDatasetReader', data_root=data_root)
train_dataloader = dict(dataset=dict(reader=reader))
val_dataloader = dict(dataset=dict(reader=reader))
