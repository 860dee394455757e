"""AI-Hub 71357, 외부 지식 기반 멀티모달 질의응답; all but the reader as for AI-Hub 101.

KOVILT_AIHUB_71357 names another folder, KOVILT_TOKENIZER another tokenizer.
"""
_base_ = './aihub_living_vqa.py'
data_root = '{{$KOVILT_AIHUB_71357:data/aihub_71357}}'

train_dataloader = dict(dataset=dict(type='AIHubKnowledgeVQA', data_root=data_root))
val_dataloader = dict(dataset=dict(type='AIHubKnowledgeVQA', data_root=data_root))
