"""Fine-tuning on prepared questions: the steps of kovilt_vqa_aihub.py without decoding an image in any epoch.

Data: made by kovilt prepare kovilt_vqa_aihub data/prepared_vqa   (or another VQA config)
    KOVILT_PREPARED_VQA names another folder. Prepared with --val-rows 3000, its split test is the set's own val.
Expected: as the config that the data was prepared with; for AI-Hub 101 about 78.6 % (paper).
Time: as that config, less the time for reading, decoding and resizing images.
Command: bash tools/dist_train.sh kovilt_vqa_prepared 8 --amp
"""
import os

_base_ = './kovilt_vqa_aihub.py'
data_root = os.environ.get('KOVILT_PREPARED_VQA', 'data/prepared_vqa')
reader = dict(type='PreparedReader', data_root=data_root)
image_pipeline = [dict(type='LoadPrepared')]                           # these images are resized and cut into patches
train_dataloader = dict(dataset=dict(
    reader=reader, image_pipeline=image_pipeline,
    answers=f'{data_root}/answers.json'))                              # of the whole set, also with --rows
val_dataloader = dict(dataset=dict(reader=reader, image_pipeline=image_pipeline))
