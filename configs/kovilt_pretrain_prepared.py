"""Pre-training on prepared captions: the steps of kovilt_pretrain_coco.py without decoding an image in any epoch.

Data: made by kovilt prepare kovilt_pretrain_coco data/prepared_captions
    KOVILT_PREPARED_CAPTIONS names another folder.
Expected: as kovilt_pretrain_coco.py.
Time: as kovilt_pretrain_coco.py, less the time for reading, decoding and resizing images.
Command: bash tools/dist_train.sh kovilt_pretrain_prepared 8 --amp
"""
import os

_base_ = './kovilt_pretrain_coco.py'
data_root = os.environ.get('KOVILT_PREPARED_CAPTIONS', 'data/prepared_captions')
reader = dict(type='PreparedReader', data_root=data_root)
image_pipeline = [dict(type='LoadPrepared')]                           # these images are resized and cut into patches
train_dataloader = dict(dataset=dict(
    reader=reader, image_pipeline=image_pipeline))
val_dataloader = dict(dataset=dict(reader=reader, image_pipeline=image_pipeline))
