"""Questions that tools/data/prepare.py has prepared, whatever set they are of; loading as for AI-Hub 101.

KOVILT_PREPARED_VQA names another folder, KOVILT_TOKENIZER another tokenizer.
"""
_base_ = './aihub_living_vqa.py'
data_root = '{{$KOVILT_PREPARED_VQA:data/prepared_vqa}}'
image_pipeline = [dict(type='LoadPrepared')]                    # read, resized and cut already

train_dataloader = dict(dataset=dict(
    type='PreparedVQA', data_root=data_root, image_pipeline=image_pipeline,
    token_cache=f'{data_root}/tokens',                          # questions tokenized once and not in every epoch
    answers=f'{data_root}/answers.json'))                       # those of the whole set, also where rows were drawn
val_dataloader = dict(dataset=dict(type='PreparedVQA', data_root=data_root, image_pipeline=image_pipeline))
