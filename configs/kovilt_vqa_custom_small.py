"""Fine-tuning a small model on your own images, on a CPU, from the encoder that kovilt carries.

Data: as kovilt_vqa_custom.py. `kovilt train FOLDER` chooses the rest: it extends the tokenizer by your words, sets the
    length of the training, and writes a config that inherits from this one.
Expected: more than the same without images (`kovilt train FOLDER` prints both).
Time: minutes on two CPU cores.
Command: KOVILT_CUSTOM=FOLDER kovilt train kovilt_vqa_custom_small --amp
"""
import os
import sys

_base_ = ['./_base_/runtime.py', './_base_/models/vilt_rooms.py']

# Data
data_root = os.environ.get('KOVILT_CUSTOM', 'data/custom')
package = sys.modules['kovilt'].__path__[0]                            # wherever kovilt is installed
start = os.environ.get('KOVILT_START', f'{package}/assets/rooms_encoder')   # a model folder: weights and tokenizer
reader = dict(type='PlainReader', data_root=data_root)
text_pipeline = [dict(type='TokenizeKorean', tokenizer=start, max_text_len=40)]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(type='QuestionDataset', reader=reader, text_pipeline=text_pipeline, answers=dict(min_count=1)))
val_dataloader = dict(
    batch_size=256,
    dataset=dict(type='QuestionDataset', reader=reader, text_pipeline=text_pipeline, keep_record=True))
val_evaluator = dict(type='VQAAccuracy')

# Objective: answers as classes
model = dict(
    type='ViLTForVQA',
    encoder=dict(drop_rate=0.1),
    vqa_head=dict(
        type='VQAHead',
        num_answers=None,                                              # the training set's
        loss='cross_entropy'))
custom_hooks = [
    dict(type='InitCLSFromMaskHook'),
    dict(type='EarlyStoppingHook', monitor='accuracy', rule='greater', min_delta=0.0, patience=5)]
load_from = start

# Schedule, counted in steps
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor', clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='MuonAdamW', lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05),
    paramwise_cfg=dict(head_prefixes=['vqa_head'], head_lr_mult=3.0))
param_scheduler = dict(type='WarmupLinearLR', warmup=0.05, by_epoch=False)
train_cfg = dict(type='StepTrainLoop', max_iters=600, val_interval=60)
val_cfg = dict()
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=60, save_best='accuracy', rule='greater'))
log_processor = dict(by_epoch=False)
