"""Questions in a table, grey images: PYTHONPATH=examples/plugin python tools/train.py examples/plugin/grey_table.py
"""
_base_ = './cosine_head.py'
data_root = '{{$MY_DATA:data/mine}}'
pipeline = [dict(type='LoadImage'), dict(type='Grey'), dict(type='ResizeViLT', short=128, long=213, divisor=16),
            dict(type='Patchify', patch_size=16)]
train_dataloader = dict(dataset=dict(type='CSVQuestions', data_root=data_root, image_pipeline=pipeline))
val_dataloader = dict(dataset=dict(type='CSVQuestions', data_root=data_root, image_pipeline=pipeline))
