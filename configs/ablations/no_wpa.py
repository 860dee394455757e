"""Pre-training without word-patch alignment.

Data: as kovilt_pretrain_coco.py.
Expected: on Rooms, accuracy after fine-tuning changes by -0.60 points (-2.08 to +0.75) (docs/en/reproduction.md).
Time: as kovilt_pretrain_coco.py.
Command: bash tools/dist_train.sh ablations/no_wpa 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(wpa_head=None)
