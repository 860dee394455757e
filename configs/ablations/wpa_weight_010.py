"""Pre-training with word-patch alignment at the weight of ViLT, 0.1 instead of 0.5.

Data: as kovilt_pretrain_coco.py.
Expected: not measured.
Time: as kovilt_pretrain_coco.py.
Command: bash tools/dist_train.sh ablations/wpa_weight_010 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(wpa_head=dict(loss_weight=0.1))
