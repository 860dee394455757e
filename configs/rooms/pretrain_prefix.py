"""Pre-training of an encoder that looks at an image once for all its texts and for both passes.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Command: python tools/train.py configs/rooms/pretrain_prefix.py --amp
"""
_base_ = './pretrain.py'
model = dict(encoder=dict(type='PrefixViLT'))
