"""30 % of the words are hidden, not 15 %.   bash tools/dist_train.sh configs/ablations/mask_ratio_030.py 8 --amp"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(mlm_head=dict(mask_ratio=0.30))
