"""First stage of the pre-training of a small METER: the names of objects, from images that show one object each.

Data: kovilt rooms data/rooms --images 2000
      kovilt rooms data/rooms_alone --images 8000 --alone 1 --seed 1
    KOVILT_ROOMS (tokenizer, validation) and KOVILT_ROOMS_ALONE (training) name other folders.
Expected: on 8,000 images 71 % of the masked words and 78 % of the pairs in the last 200 steps of training.
Time: about 25 minutes on one CPU core.
Command: kovilt train rooms/meter_pretrain_single_objects --amp
"""
import os

_base_ = './meter_pretrain.py'
train_dataloader = dict(dataset=dict(reader=dict(
    data_root=os.environ.get('KOVILT_ROOMS_ALONE', 'data/rooms_alone') + '/captions')))
