"""METER with answers as classes."""
_base_ = './meter_base.py'
model = dict(
    type='METERForVQA',
    vqa_head=dict(
        type='VQAHead',
        num_answers=None,                                  # the training set's
        loss='cross_entropy'))                             # one answer a question in AI-Hub 101
