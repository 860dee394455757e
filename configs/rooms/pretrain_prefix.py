"""Pre-training of PrefixViLT, which encodes an image once for all its texts and for both passes.

Data: kovilt rooms data/rooms --images 2000
Expected: as rooms/pretrain.py; fine-tuned after 700 steps, -0.08 points (-1.58 to +1.58) (docs/en/reproduction.md).
Time: about a quarter of an hour on two CPU cores.
Command: kovilt train rooms/pretrain_prefix --amp
"""
_base_ = './pretrain.py'
model = dict(encoder=dict(type='PrefixViLT'))
