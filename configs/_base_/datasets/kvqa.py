"""KVQA, ten answers a question; loading as for AI-Hub 101.

KOVILT_KVQA names another folder, KOVILT_TOKENIZER another tokenizer.
"""
_base_ = './aihub_living_vqa.py'
data_root = '{{$KOVILT_KVQA:data/kvqa}}'

train_dataloader = dict(dataset=dict(
    type='KVQA', data_root=data_root, target='soft',
    answers=dict(min_count=3)))                                 # KVQA's baseline: answers of three images or more
val_dataloader = dict(dataset=dict(type='KVQA', data_root=data_root))
