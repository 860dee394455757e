"""A ViLT of 2 million parameters for Rooms, and the input that it takes: images at a quarter of ViLT's size.

KOVILT_ROOMS names another folder of Rooms, in which the tokenizer lies.
"""
import os

image_size = 96      # pixels of the shorter side
max_text_len = 40    # tokens

model = dict(
    encoder=dict(
        type='ViLT',
        hidden_size=192, num_layers=4, num_heads=6, mlp_ratio=4.0,
        patch_size=16, image_size=image_size,
        vocab_size=None,                                               # the tokenizer's
        max_text_len=max_text_len,
        drop_rate=0.0, activation='relu', init_std=0.05, pos_init='sincos'),
    data_preprocessor=dict(type='ViLTPreprocessor'))

image_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeViLT', short=image_size, long=int(1333 / 800 * image_size)),            # ViLT's rule: 159 pixels
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
