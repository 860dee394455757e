"""AI-Hub 104, 시각정보 기반 질의응답; all but the reader as for AI-Hub 101.

KOVILT_AIHUB_104 names another folder, KOVILT_TOKENIZER another tokenizer.
"""
_base_ = './aihub_living_vqa.py'
data_root = '{{$KOVILT_AIHUB_104:data/aihub_104}}'

train_dataloader = dict(dataset=dict(type='AIHubVisualQA', data_root=data_root))
val_dataloader = dict(dataset=dict(type='AIHubVisualQA', data_root=data_root))
