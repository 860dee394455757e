"""METER's encoder (arXiv 2111.02387) - CLIP's ViT-B/16, a BERT, 6 layers of co-attention - and the input that it takes.

KOVILT_CLIP and KOVILT_TOKENIZER name the weights that the image and the text encoder start from, each a folder or a
name on the HuggingFace hub. The tokenizer is that of the text encoder.
"""
import os

image_size = 576                                                       # pixels of both sides, METER's for VQA
bert = os.environ.get('KOVILT_TOKENIZER', 'kykim/bert-kor-base')

model = dict(
    encoder=dict(
        type='METER',
        image_encoder=dict(
            type='mmpretrain.VisionTransformer', patch_size=16, out_type='raw',
            arch=dict(embed_dims=768, num_layers=11, num_heads=12, feedforward_channels=3072),   # CLIP's less the last
            pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5),                                   # CLIP's
            layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU'))),                         # CLIP's
        image_encoder_weights=os.environ.get('KOVILT_CLIP', 'openai/clip-vit-base-patch16'),
        text_encoder=dict(
            type='TextEncoder', pretrained=bert, model_type='bert', hidden_size=768, num_layers=12, num_heads=12,
            drop_rate=0.1),                                            # BERT's
        image_size=image_size,
        vocab_size=None,                                               # the tokenizer's
        max_text_len=512,                                              # a BERT's positions
        hidden_size=768, num_layers=6, num_heads=12, mlp_ratio=4.0, drop_rate=0.1),
    data_preprocessor=dict(
        type='METERPreprocessor',
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)))     # CLIP's

image_pipeline = [
    dict(type='LoadImage'),
    dict(type='CropSquare', side=image_size),
    dict(type='Patchify')]
text_pipeline = [dict(type='TokenizeKorean', tokenizer=bert, max_text_len=50)]                   # METER's
train_dataloader = dict(
    dataset=dict(reader=dict(split='train'), image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=True),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate'))
val_dataloader = dict(
    dataset=dict(reader=dict(split='val'), test_mode=True, image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=False),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate'))
