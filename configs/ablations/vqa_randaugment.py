"""Fine-tuning with RandAugment on the images, as in the best run of ViLT's table 5.

bash tools/dist_train.sh configs/ablations/vqa_randaugment.py 8 --amp
"""
_base_ = '../kovilt_vqa_aihub.py'
train_dataloader = dict(dataset=dict(image_pipeline=[
    dict(type='LoadImage'),
    dict(type='RandAugment', num_ops=2, magnitude=9),   # ViLT's (2, 9), before the resizing
    dict(type='ResizeViLT', short=384, long=639, divisor=32),
    dict(type='Patchify', patch_size=32)]))
