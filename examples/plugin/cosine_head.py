"""Rooms with a head of our own.   PYTHONPATH=examples/plugin python tools/train.py examples/plugin/cosine_head.py"""
_base_ = '../../configs/rooms/vqa_scratch.py'
custom_imports = dict(imports=['my_parts'], allow_failed_imports=False)
model = dict(vqa_head=dict(_delete_=True, type='CosineVQAHead', num_answers=None, temperature=0.1))
