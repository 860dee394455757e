"""Fine-tuning a small model on your own images, on a CPU, from the encoder that kovilt carries.

Data: as kovilt_vqa_custom.py. `kovilt train FOLDER` chooses the rest: it extends the tokenizer by your words, sets the
    length of the training, and writes a config that inherits from this one.
Expected: more than the same without images (`kovilt train FOLDER` prints both).
Time: minutes on two CPU cores.
Command: KOVILT_CUSTOM=FOLDER kovilt train kovilt_vqa_custom_small --amp
"""
import os
import sys

_base_ = './rooms/vqa.py'

# Data
data_root = os.environ.get('KOVILT_CUSTOM', 'data/custom')
package = sys.modules['kovilt'].__path__[0]                            # wherever kovilt is installed
start = os.environ.get('KOVILT_START', f'{package}/assets/rooms_encoder')   # a model folder: weights and tokenizer
reader = dict(type='PlainReader', data_root=data_root)
text_pipeline = [dict(type='TokenizeKorean', tokenizer=start, max_text_len=40)]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(reader=reader, text_pipeline=text_pipeline, answers=dict(min_count=1)))
val_dataloader = dict(dataset=dict(reader=reader, text_pipeline=text_pipeline))

# Objective: answers as classes
model = dict(encoder=dict(drop_rate=0.1))
custom_hooks = [
    dict(type='InitCLSFromMaskHook'),
    dict(type='EarlyStoppingHook', monitor='accuracy', rule='greater', min_delta=0.0, patience=5)]
load_from = start

# Schedule, counted in steps
train_cfg = dict(max_iters=600, val_interval=60)
default_hooks = dict(checkpoint=dict(interval=60))
