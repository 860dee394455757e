"""METER on AI-Hub 101, the baseline that the paper compares cost with: 24 hours an epoch against ViLT's 2.

Data: AI-Hub 101 (1,646,080 training rows) in data/aihub_101; the text tower's BERT with its tokenizer, from the hub or
    the folder that KOVILT_TOKENIZER names.
Expected: no accuracy is published; a step costs 10 to 14 times ViLT's at METER's own 576 pixels, 4 to 6 times at 384.
Time: the paper took 24 hours an epoch.
Command: bash tools/dist_train.sh configs/meter_vqa_aihub.py 8 --amp
"""
_base_ = ['./_base_/runtime.py', './_base_/models/meter.py',
          './_base_/datasets/aihub_living_vqa.py', './_base_/schedules/finetuning.py']
# The picture tower starts at random unless its init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')
# names a CLIP ViT-B/16 in mmpretrain's layout (docs/security.md: a pickle, so of people you trust).
bert = '{{$KOVILT_TOKENIZER:kykim/bert-kor-base}}'         # the same weights' own tokenizer reads the questions
images = [
    dict(type='LoadPicture'),
    dict(type='CropSquare', side=576),
    dict(type='Patchify', patch_size=16)]
texts = [dict(type='TokenizeKorean', tokenizer=bert, max_text_len=50)]                       # METER's
model = dict(encoder=dict(text_tower=dict(pretrained=bert)))
train_dataloader = dict(
    batch_size=64,                                         # 8 processes x 64 = METER's 512
    collate_fn=dict(micro_batches=8),                      # 1,297 states a picture: the same steps in less memory
    dataset=dict(image_pipeline=images, text_pipeline=texts))
val_dataloader = dict(batch_size=32, dataset=dict(image_pipeline=images, text_pipeline=texts))
optim_wrapper = dict(
    optimizer=dict(lr=5e-6),                               # METER's configuration for VQAv2
    paramwise_cfg=dict(head_lr_mult=50.0, lr_mults={'encoder.cross_modal': 5.0}))   # likewise
auto_scale_lr = dict(base_batch_size=512)                  # METER's
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
