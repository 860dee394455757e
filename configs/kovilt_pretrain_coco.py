"""Pre-training of Ko-ViLT from random weights: masked words, image-text matching and word-patch alignment.

Data: AI-Hub 261, MS COCO images with five Korean captions each (about 600,000 pairs), in data/aihub_261 or in the
    folder that KOVILT_AIHUB_261 names.
Expected: mlm_accuracy and itm_accuracy rise, wpa_matched_distance falls below wpa_mismatched_distance. The paper gives
    no numbers.
Time: about 24.6 million pairs; on 8 GPUs of 200 useful TFLOP/s each about 2 hours for the arithmetic alone.
Command: bash tools/dist_train.sh kovilt_pretrain_coco 8 --amp
    To start from a ViT's weights: --load-from FILE, which kovilt import writes.
"""
import os

_base_ = ['./_base_/runtime.py', './_base_/models/vilt_base.py']

# Data
data_root = os.environ.get('KOVILT_AIHUB_261', 'data/aihub_261')
reader = dict(type='AIHubCOCOKoreanReader', data_root=data_root)
train_dataloader = dict(
    batch_size=512, num_workers=8, persistent_workers=True,            # 8 processes x 512 = 4096, ViLT's batch
    dataset=dict(type='PairDataset', reader=reader),
    collate_fn=dict(micro_batches=8))                                  # 64 pairs in memory at a time
val_dataloader = dict(
    batch_size=64, num_workers=4,
    dataset=dict(type='PairDataset', reader=reader),
    sampler=dict(texts_per_image=1))
val_evaluator = dict(type='PretrainingMetrics')

# Objectives, L = L1 + L2 + 0.5 L3 (the paper's section 3)
model = dict(
    type='ViLTForPreTraining',
    mlm_head=dict(
        type='MLMHead',
        mask_token_id=None, special_token_ids=None,                    # the tokenizer's
        mask_ratio=0.15, whole_word=True, loss_weight=1.0),            # the paper; whole words as in ViLT 3.3
    itm_head=dict(type='ITMHead', loss_weight=1.0),
    wpa_head=dict(
        type='WPAHead',
        loss_weight=0.5,                                               # the paper; ViLT and UNITER 0.1
        mismatched='ignore',                                           # the paper minimises matched distances only
        beta=0.5, iterations=50))                                      # UNITER's and ViLT's IPOT

# Schedule
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01))   # ViLT 4.2, its config
param_scheduler = dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False)                   # ViLT 4.2, then linear to 0
train_cfg = dict(by_epoch=True, max_epochs=40)       # as often as ViLT's 100k steps pass over its captions (42 times)
val_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=4096)
