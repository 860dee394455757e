"""Captions that tools/data/prepare.py has prepared; loading as for AI-Hub 261.

KOVILT_PREPARED_CAPTIONS names another folder, KOVILT_TOKENIZER another tokenizer.
"""
_base_ = './aihub_coco_korean.py'
data_root = '{{$KOVILT_PREPARED_CAPTIONS:data/prepared_captions}}'
image_pipeline = [dict(type='LoadPrepared')]                    # read, resized and cut already

train_dataloader = dict(dataset=dict(
    type='PreparedCaptions', data_root=data_root, image_pipeline=image_pipeline,
    token_cache=f'{data_root}/tokens'))                         # captions tokenized once and not in every epoch
val_dataloader = dict(dataset=dict(type='PreparedCaptions', data_root=data_root, image_pipeline=image_pipeline))
