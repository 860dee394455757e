"""A METER of 6 million parameters for Rooms, built as meter_base.py, and the input that it takes.

KOVILT_ROOMS names another folder of Rooms, in which the tokenizer lies.
"""
import os

image_size = 96      # pixels of both sides
max_text_len = 40    # tokens

model = dict(
    encoder=dict(
        type='METER',
        image_encoder=dict(
            type='mmpretrain.VisionTransformer', patch_size=16, out_type='raw',
            arch=dict(embed_dims=192, num_layers=3, num_heads=6, feedforward_channels=768),
            pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5),
            layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU'))),
        text_encoder=dict(
            type='TextEncoder', model_type='bert', hidden_size=192, num_layers=3, num_heads=6, drop_rate=0.0),
        image_size=image_size,
        vocab_size=None,                                               # the tokenizer's
        max_text_len=max_text_len,
        hidden_size=192, num_layers=2, num_heads=6, mlp_ratio=4.0, drop_rate=0.0, init_std=0.05),
    data_preprocessor=dict(
        type='METERPreprocessor',
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)))     # CLIP's

image_pipeline = [
    dict(type='LoadImage'),
    dict(type='CropSquare', side=image_size),
    dict(type='Patchify')]
text_pipeline = [
    dict(
        type='TokenizeKorean', tokenizer=os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/tokenizer',
        max_text_len=max_text_len)]
train_dataloader = dict(
    num_workers=0,                                                     # cached images need no workers
    dataset=dict(
        reader=dict(split='train'), cache_images=True, image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=True, texts_per_image=1),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate', micro_batches=1))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(reader=dict(split='val'), test_mode=True, image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=False),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate'))
