"""AI-Hub 101 without its images: how far language alone goes.

bash tools/dist_train.sh configs/ablations/vqa_question_only.py 8 --amp
"""
_base_ = '../kovilt_vqa_aihub_scratch.py'
train_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
val_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
