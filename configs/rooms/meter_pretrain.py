"""Pre-training of a small METER on Rooms captions.

Data: kovilt rooms data/rooms --images 2000
    and the checkpoint of rooms/meter_pretrain_single_objects.py.
Expected: from that start, on 10,000 images, 63.6 % of the masked words and 82.6 % of the pairs after 2,000 steps
    (docs/en/multiple_choice.md).
Time: about half an hour on one CPU core.
Command: kovilt train rooms/meter_pretrain --amp --load-from work_dirs/meter_pretrain_single_objects/iter_2000.pth
    Then: kovilt train rooms/choice_meter --amp
"""
import os

_base_ = ['../_base_/runtime.py', '../_base_/models/meter_rooms.py']

# Data
data_root = os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/captions'
reader = dict(type='AIHubCOCOKoreanReader', data_root=data_root)
train_dataloader = dict(batch_size=64, dataset=dict(type='PairDataset', reader=reader))
val_dataloader = dict(
    batch_size=128,
    dataset=dict(type='PairDataset', reader=reader),
    sampler=dict(texts_per_image=1))
val_evaluator = dict(type='PretrainingMetrics')

# Objectives
model = dict(
    type='METERForPreTraining',
    mlm_head=dict(
        type='MLMHead',
        mask_token_id=None, special_token_ids=None,        # the tokenizer's
        mask_ratio=0.15, whole_word=True, loss_weight=1.0,
        content_ratio=0.9,                                 # as in rooms/pretrain.py: the names of objects
        content_words=['소파', '의자', '탁자', '침대', '램프', '텔레비전', '냉장고', '화분', '책',
                       '시계', '창문', '액자', '고양이', '강아지', '컵', '공', '우산', '가방']),
    itm_head=dict(type='ITMHead', loss_weight=1.0))

# Schedule, counted in steps
optim_wrapper = dict(
    type='ViLTOptimWrapper', constructor='ViLTOptimWrapperConstructor', clip_grad=dict(max_norm=1.0),
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05))
param_scheduler = dict(type='WarmupLinearLR', warmup=0.05, by_epoch=False)
train_cfg = dict(type='StepTrainLoop', max_iters=2000, val_interval=1000)
val_cfg = dict()
default_hooks = dict(logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
