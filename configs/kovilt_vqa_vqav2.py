"""Fine-tuning on VQAv2 in translation with soft targets: ten answers a question, binary cross-entropy as ViLT.

Data: two files a split in VQAv2's layout and COCO's images, in data/vqav2_ko or in the folder that KOVILT_VQAV2 names;
    the checkpoint of kovilt_pretrain_coco.py. docs/en/data.md shows how to read files of other names.
Expected: not measured; more than majority_accuracy, which always gives the most frequent answer.
Time: as kovilt_vqa_aihub.py, in proportion to the number of questions.
Command: bash tools/dist_train.sh kovilt_vqa_vqav2 8 --amp
"""
import os

_base_ = './kovilt_vqa_aihub.py'
data_root = os.environ.get('KOVILT_VQAV2', 'data/vqav2_ko')
reader = dict(type='VQAv2Reader', data_root=data_root)
model = dict(vqa_head=dict(loss='bce'))
train_dataloader = dict(dataset=dict(
    reader=reader, target='soft',
    answers=dict(min_count=9)))                                        # ViLT: 3,129 answers
val_dataloader = dict(dataset=dict(reader=reader))
