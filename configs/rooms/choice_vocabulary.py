"""The questions of rooms/choice.py answered by classes: an answer head, of whose answers those among the options count.

Data: kovilt rooms data/rooms --images 2000 --choices
Expected: 49.2 % after 1,000 steps on 10,000 images (docs/en/multiple_choice.md).
Time: half of rooms/vqa.py, as a step has half the questions.
Command: kovilt train rooms/choice_vocabulary --amp
"""
import os

_base_ = './vqa.py'
data_root = os.environ.get('KOVILT_ROOMS', 'data/rooms') + '/choices'
reader = dict(type='ChoiceReader', data_root=data_root, allow_outside=True)
text_pipeline = [dict(type='TokenizeKorean', tokenizer='rooms_encoder', max_text_len=40)]
train_dataloader = dict(batch_size=32, dataset=dict(reader=reader, text_pipeline=text_pipeline))
val_dataloader = dict(dataset=dict(reader=reader, text_pipeline=text_pipeline))
load_from = 'rooms_encoder'
