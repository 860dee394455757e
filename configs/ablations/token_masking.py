"""Pre-training with single tokens masked instead of whole Korean words (eojeol).

Data: as kovilt_pretrain_coco.py.
Expected: not measured; mlm_accuracy is higher, since the rest of a word gives its masked token away.
Time: as kovilt_pretrain_coco.py.
Command: bash tools/dist_train.sh ablations/token_masking 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(mlm_head=dict(whole_word=False))
