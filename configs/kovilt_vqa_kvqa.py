"""Fine-tuning on KVQA with soft targets: ten answers a question, binary cross-entropy as ViLT on VQAv2.

Data: KVQA (100,445 images, one question each) in data/kvqa or in the folder that KOVILT_KVQA names; the checkpoint of
    kovilt_pretrain_coco.py. The 16 % of the questions that the image cannot answer take part like all others.
Expected: not measured; KVQA's own baseline (BAN) reaches 30.94 % of its ten-answer score on val.
Time: 10 epochs of at most 100,445 questions, half an epoch of kovilt_vqa_aihub.py: about an hour at the paper's speed.
Command: bash tools/dist_train.sh kovilt_vqa_kvqa 8 --amp
"""
import os

_base_ = './kovilt_vqa_aihub.py'
data_root = os.environ.get('KOVILT_KVQA', 'data/kvqa')
reader = dict(type='KVQAReader', data_root=data_root)
model = dict(vqa_head=dict(loss='bce'))
train_dataloader = dict(dataset=dict(
    reader=reader, target='soft',
    answers=dict(min_count=3)))                                        # as KVQA's baseline: answers of 3 images or more
val_dataloader = dict(dataset=dict(reader=reader))
