"""Pre-training with masked words alone: neither matching nor alignment.

bash tools/dist_train.sh configs/ablations/mlm_only.py 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(itm_head=None, wpa_head=None)
