"""Pre-training with masked words alone: neither image-text matching nor word-patch alignment.

Data: as kovilt_pretrain_coco.py.
Expected: on Rooms, accuracy after fine-tuning changes by -0.20 points (-1.53 to +0.95) (docs/en/reproduction.md).
Time: shorter than kovilt_pretrain_coco.py, which takes two passes a batch where this takes one.
Command: bash tools/dist_train.sh ablations/mlm_only 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(itm_head=None, wpa_head=None)
