"""Pre-training without word-patch alignment.   bash tools/dist_train.sh configs/ablations/no_wpa.py 8 --amp"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(wpa_head=None)
