"""Fine-tuning of an encoder that looks at an image once for all its questions, in training and in VQAInferencer.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Command: python tools/train.py configs/rooms/vqa_prefix.py --amp
"""
_base_ = './vqa.py'
model = dict(encoder=dict(type='PrefixViLT'))
load_from = 'work_dirs/pretrain_prefix/iter_2000.pth'
