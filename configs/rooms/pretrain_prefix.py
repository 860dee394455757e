"""Pre-training of PrefixViLT, which encodes an image once for all its texts and for both passes.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Expected: as rooms/pretrain.py; fine-tuned after 700 steps, -0.08 points (-1.58 to +1.58) (docs/reproduction.md).
Time: about a quarter of an hour on two CPU cores.
Command: python tools/train.py configs/rooms/pretrain_prefix.py --amp
"""
_base_ = './pretrain.py'
model = dict(encoder=dict(type='PrefixViLT'))
