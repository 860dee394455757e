"""Pre-training with 30 % of the words masked instead of 15 %.

Data: as kovilt_pretrain_coco.py.
Expected: not measured; mlm_accuracy is lower, since less of each caption is visible.
Time: as kovilt_pretrain_coco.py.
Command: bash tools/dist_train.sh ablations/mask_ratio_030 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(mlm_head=dict(mask_ratio=0.30))
