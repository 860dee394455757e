"""Fine-tuning on AI-Hub 71357, 외부 지식 기반 멀티모달 질의응답, with the settings of kovilt_vqa_aihub.py.

Data: AI-Hub 71357 in data/aihub_71357 or in the folder that KOVILT_AIHUB_71357 names; the checkpoint of
    kovilt_pretrain_coco.py.
Expected: not measured; more than majority_accuracy, which always gives the most frequent answer.
Time: as kovilt_vqa_aihub.py, in proportion to the number of questions.
Command: bash tools/dist_train.sh kovilt_vqa_aihub_knowledge 8 --amp
"""
import os

_base_ = './kovilt_vqa_aihub.py'
data_root = os.environ.get('KOVILT_AIHUB_71357', 'data/aihub_71357')
reader = dict(type='AIHubKnowledgeReader', data_root=data_root)
train_dataloader = dict(dataset=dict(reader=reader))
val_dataloader = dict(dataset=dict(reader=reader))
