"""A folder of one's own, train.jsonl and val.jsonl (or .csv) and images; loading as for AI-Hub 101.

KOVILT_CUSTOM names the folder, KOVILT_TOKENIZER another tokenizer.
"""
_base_ = './aihub_living_vqa.py'
data_root = '{{$KOVILT_CUSTOM:data/custom}}'

train_dataloader = dict(dataset=dict(
    type='PlainVQA', data_root=data_root,
    answers=dict(min_count=1)))                                 # no row is left out; more where answers are many
val_dataloader = dict(dataset=dict(type='PlainVQA', data_root=data_root))
