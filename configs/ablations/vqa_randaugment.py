"""Fine-tuning with RandAugment on the images, as in the best run of ViLT's table 5.

Data: as kovilt_vqa_aihub.py.
Expected: not measured.
Time: as kovilt_vqa_aihub.py, or longer where the loader is the bottleneck.
Command: bash tools/dist_train.sh ablations/vqa_randaugment 8 --amp
"""
_base_ = '../kovilt_vqa_aihub.py'
train_dataloader = dict(dataset=dict(image_pipeline=[
    dict(type='LoadImage'),
    dict(type='RandAugment', num_ops=2, magnitude=9),   # ViLT's (2, 9), before resizing
    dict(type='ResizeViLT', short=384, long=639),
    dict(type='Patchify')]))
