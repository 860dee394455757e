"""Pre-training of METER on Ko-ViLT's captions: masked words and image-text matching, starting from CLIP and a BERT.

Data: AI-Hub 261, as kovilt_pretrain_coco.py; CLIP for the image encoder and a BERT for the text encoder, from the hub
    or from the folders that KOVILT_CLIP and KOVILT_TOKENIZER name.
Expected: mlm_accuracy and itm_accuracy rise; no METER in Korean has been published.
Time: about 24.6 million pairs, each with two passes; METER's own 100,000 steps of 4,096 pairs took its authors about 8
    days on 8 A100 (METER's issue 16).
Command: bash tools/dist_train.sh meter_pretrain_coco 8 --amp
"""
import os

_base_ = ['./_base_/runtime.py', './_base_/models/meter_base.py']

# Data, at 288 pixels as METER's best model (its default is 224)
data_root = os.environ.get('KOVILT_AIHUB_261', 'data/aihub_261')
reader = dict(type='AIHubCOCOKoreanReader', data_root=data_root)
image_pipeline = [
    dict(type='LoadImage'),
    dict(type='CropSquare', side=288),
    dict(type='Patchify')]
train_dataloader = dict(
    batch_size=512, num_workers=8, persistent_workers=True,            # 8 processes x 512 = METER's 4,096
    dataset=dict(type='PairDataset', reader=reader, image_pipeline=image_pipeline),
    collate_fn=dict(micro_batches=16))                                 # 325 tokens an image: 32 pairs in memory
val_dataloader = dict(
    batch_size=64, num_workers=4,
    dataset=dict(type='PairDataset', reader=reader, image_pipeline=image_pipeline),
    sampler=dict(texts_per_image=1))
val_evaluator = dict(type='PretrainingMetrics')

# Objectives, each with weight 1 (METER's section 3.3)
model = dict(
    type='METERForPreTraining',
    encoder=dict(image_size=288),
    mlm_head=dict(
        type='MLMHead',
        mask_token_id=None, special_token_ids=None,                    # the tokenizer's
        mask_ratio=0.15, whole_word=True, loss_weight=1.0),            # METER's configuration
    itm_head=dict(type='ITMHead', loss_weight=1.0))

# Schedule: METER's configuration for pre-training
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(
        head_prefixes=['mlm_head', 'itm_head'], head_lr_mult=5.0, lr_mults={'encoder.cross_modal': 5.0}))
param_scheduler = dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=40)   # as often as METER's 100,000 steps pass over its captions
val_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=4096)
