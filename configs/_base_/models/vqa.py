"""Answers as classes."""
_base_ = './vilt_base.py'
model = dict(
    type='ViLTForVQA',
    vqa_head=dict(
        type='VQAHead',
        num_answers=None,                # the training set's
        loss='cross_entropy'))           # one answer a question in AI-Hub 101; ViLT's 'bce' is for VQAv2's ten
