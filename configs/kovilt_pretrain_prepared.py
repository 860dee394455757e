"""Pre-training on prepared captions: the steps of kovilt_pretrain_coco.py, and no image is decoded in 40 epochs.

Data: python tools/data/prepare.py configs/kovilt_pretrain_coco.py data/prepared_captions   (any OUT in
    KOVILT_PREPARED_CAPTIONS)
Expected: as kovilt_pretrain_coco.py.
Time: as kovilt_pretrain_coco.py, less what reading, decoding and resizing took.
Command: bash tools/dist_train.sh configs/kovilt_pretrain_prepared.py 8 --amp
"""
_base_ = ['./_base_/runtime.py', './_base_/models/pretraining.py',
          './_base_/datasets/prepared_captions.py', './_base_/schedules/pretraining.py']
