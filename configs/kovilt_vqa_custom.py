"""Fine-tuning on your own images, with questions in train.jsonl and val.jsonl (or .csv).

Data: data/custom or the folder that KOVILT_CUSTOM names. A line is
    {"image": "a.jpg", "question": "...", "answer": "..."}; docs/en/data.md has the details.
Expected: more than majority_accuracy, which always gives the most frequent answer; at most `ceiling`.
Time: as kovilt_vqa_aihub.py, in proportion to the number of questions.
Command: KOVILT_CUSTOM=FOLDER kovilt train kovilt_vqa_custom --load-from PRETRAINED
"""
import os

_base_ = './kovilt_vqa_aihub.py'
data_root = os.environ.get('KOVILT_CUSTOM', 'data/custom')
reader = dict(type='PlainReader', data_root=data_root)
train_dataloader = dict(dataset=dict(
    reader=reader,
    answers=dict(min_count=1)))                                        # keeps every question; raise it for many answers
val_dataloader = dict(dataset=dict(reader=reader))
load_from = None                                                       # random weights without --load-from
