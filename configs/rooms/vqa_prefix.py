"""Fine-tuning of PrefixViLT, which encodes an image once for all its questions, in training and in VQAInferencer.

Data: kovilt rooms data/rooms --images 2000
    and the checkpoint of rooms/pretrain_prefix.py.
Expected: as rooms/vqa.py: -0.20 points (-1.04 to +0.68) on 4,480 questions (docs/en/reproduction.md).
Time: about 10 minutes on two CPU cores.
Command: kovilt train rooms/vqa_prefix --amp
"""
_base_ = './vqa.py'
model = dict(encoder=dict(type='PrefixViLT'))
load_from = 'work_dirs/pretrain_prefix/iter_2000.pth'
