"""Multiple choice on your own images, with questions and options in train.jsonl and val.jsonl (or .csv).

Data: data/choices or the folder that KOVILT_CHOICES names. A line is
    {"image": "a.jpg", "question": "...", "options": ["...", "..."], "answer": 0}; docs/en/multiple_choice.md has the
    other forms.
Expected: more than random_accuracy, of choosing at random.
Time: as kovilt_vqa_aihub.py, times the options of a question.
Command: KOVILT_CHOICES=FOLDER kovilt train kovilt_choice_custom --load-from PRETRAINED
"""
import os

_base_ = ['./_base_/runtime.py', './_base_/models/vilt_base.py']

# Data
data_root = os.environ.get('KOVILT_CHOICES', 'data/choices')
reader = dict(type='ChoiceReader', data_root=data_root)
train_dataloader = dict(
    batch_size=32, num_workers=4, persistent_workers=True, dataset=dict(type='ChoiceDataset', reader=reader))
val_dataloader = dict(
    batch_size=32, num_workers=4, dataset=dict(type='ChoiceDataset', reader=reader, keep_record=True))
val_evaluator = dict(type='VQAAccuracy')

# Objective: the options of a question compete
model = dict(type='ViLTForMultipleChoice', choice_head=dict(type='ChoiceHead'))
load_from = None                                                       # --load-from: its matching head chooses first

# Schedule: that of kovilt_vqa_aihub.py, without a new head
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01))
param_scheduler = dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=10)
val_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=256)
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
