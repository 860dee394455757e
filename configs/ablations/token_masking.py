"""Single tokens are hidden instead of whole Korean words.

bash tools/dist_train.sh configs/ablations/token_masking.py 8 --amp
"""
_base_ = '../kovilt_pretrain_coco.py'
model = dict(mlm_head=dict(whole_word=False))
