"""Stage for other people's images: several sizes, crops, colors, blur and noise, with uniform masking.

Data: kovilt rooms data/rooms --images 2000
    and the checkpoint of rooms/pretrain_uniform_masking.py.
Expected: the encoder in kovilt/assets/rooms_encoder, whose README lists accuracies and commands.
Time: about 40 minutes on two CPU cores.
Command: kovilt train rooms/pretrain_distorted --amp
    --load-from work_dirs/pretrain_uniform_masking/iter_2000.pth
"""
_base_ = './pretrain.py'
model = dict(mlm_head=dict(mask_ratio=0.35, content_ratio=0.35))       # as in rooms/pretrain_uniform_masking.py
optim_wrapper = dict(optimizer=dict(lr=1e-3))
image_pipeline = [
    dict(type='LoadImage'),
    dict(type='RandomCrop', min_side=0.8),
    dict(type='RandomResizeViLT', shorts=[96, 96, 96, 128, 128, 160, 224]),              # first: the rest costs less
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.3, hue=0.02),    # colors are asked about
    dict(type='GaussianBlur', prob=0.3, max_sigma=0.015),
    dict(type='GaussianNoise', prob=0.3, max_std=15.0),
    dict(type='Patchify')]
train_dataloader = dict(
    num_workers=1,                                                     # the images of an epoch are those of no other
    dataset=dict(cache_images=False, image_pipeline=image_pipeline))
train_cfg = dict(max_iters=3000)
