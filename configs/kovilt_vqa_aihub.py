"""Fine-tuning on AI-Hub 101 from the pre-trained encoder: the paper's "ViLT pre-trained".

Data: AI-Hub 101, 생활 및 거주환경 기반 VQA (1,646,080 training questions), in data/aihub_101 or in the folder that
    KOVILT_AIHUB_101 names; the checkpoint of kovilt_pretrain_coco.py.
Expected: about 78.6 % (paper, DEV of 3,000 questions); without pre-training the paper reached 79.46 %.
Time: the paper took 2 hours an epoch.
Command: bash tools/dist_train.sh kovilt_vqa_aihub 8 --amp
"""
import os

_base_ = ['./_base_/runtime.py', './_base_/models/vilt_base.py']

# Data
data_root = os.environ.get('KOVILT_AIHUB_101', 'data/aihub_101')
reader = dict(type='AIHubLivingReader', data_root=data_root)
train_dataloader = dict(
    batch_size=32, num_workers=4, persistent_workers=True,             # 8 processes x 32 = 256
    dataset=dict(
        type='QuestionDataset', reader=reader,
        answers=dict(min_count=6)))                                    # the paper removes those seen 5 times or fewer
val_dataloader = dict(
    batch_size=128, num_workers=4,
    dataset=dict(type='QuestionDataset', reader=reader, keep_record=True))
val_evaluator = dict(type='VQAAccuracy')

# Objective: answers as classes
model = dict(
    type='ViLTForVQA',
    vqa_head=dict(
        type='VQAHead',
        num_answers=None,                                              # the training set's
        loss='cross_entropy'))                                         # one answer a question; 'bce' for several
load_from = 'work_dirs/kovilt_pretrain_coco/epoch_40.pth'              # only the encoder; the head is new

# Schedule: ViLT's for VQAv2
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),   # ViLT 4.2 and its config
    paramwise_cfg=dict(head_prefixes=['vqa_head'], head_lr_mult=10.0))                       # ViLT's config for VQAv2
param_scheduler = dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False)                    # 10 %, then linear to 0
train_cfg = dict(by_epoch=True, max_epochs=10)                                               # ViLT 4.2
val_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=256)
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
