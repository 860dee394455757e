"""Fine-tuning on Rooms questions from random weights: what pre-training is worth.

Command: python tools/train.py configs/rooms/vqa_scratch.py
"""
_base_ = './vqa.py'
load_from = None
