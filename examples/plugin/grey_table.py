"""Questions from a CSV table and grey images, by a reader and a transform of your own, from random weights.

Command: MY_DATA=data/mine PYTHONPATH=examples/plugin kovilt train examples/plugin/grey_table.py
"""
import os

_base_ = '../../configs/rooms/vqa.py'
custom_imports = dict(imports=['my_parts'], allow_failed_imports=False)
data_root = os.environ.get('MY_DATA', 'data/mine')
pipeline = [dict(type='LoadImage'), dict(type='Grey'), dict(type='ResizeViLT', short=128, long=213),
            dict(type='Patchify')]
train_dataloader = dict(dataset=dict(reader=dict(type='CSVReader', data_root=data_root), image_pipeline=pipeline))
val_dataloader = dict(dataset=dict(reader=dict(type='CSVReader', data_root=data_root), image_pipeline=pipeline))
load_from = None
