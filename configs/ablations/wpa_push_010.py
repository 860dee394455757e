"""Pre-training with word-patch alignment as in ViLT's code: weight 0.1, and mismatched pairs are pushed apart.

Data: as kovilt_pretrain_coco.py.
Expected: not measured; wpa_mismatched_distance rises where the paper ignores it.
Time: as kovilt_pretrain_coco.py.
Command: bash tools/dist_train.sh ablations/wpa_push_010 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(wpa_head=dict(loss_weight=0.1, mismatched='push'))
