"""METER on AI-Hub 101, the baseline that the paper compares cost with: 24 hours an epoch against ViLT's 2.

Data: AI-Hub 101 (1,646,080 training rows) in data/aihub_101; CLIP for the image encoder, a BERT for the text, with its
    tokenizer, from the hub or the folders that KOVILT_CLIP and KOVILT_TOKENIZER name. Or all of them from a checkpoint
    of meter_pretrain_coco.py: --load-from FILE; the positions of its 288 pixels are resized to these 576.
Expected: 85.24 % (paper). By arithmetic a pair costs 10 to 14 times ViLT's at METER's own 576 pixels, 4 to 6 times at
    384; benchmarks/vilt_against_meter.py measures it.
Time: the paper took 24 hours an epoch.
Command: bash tools/dist_train.sh configs/meter_vqa_aihub.py 8 --amp
"""
_base_ = ['./_base_/runtime.py', './_base_/models/meter.py',
          './_base_/datasets/aihub_living_vqa.py', './_base_/schedules/finetuning.py']
bert = '{{$KOVILT_TOKENIZER:kykim/bert-kor-base}}'         # the same weights' own tokenizer reads the questions
clip = '{{$KOVILT_CLIP:openai/clip-vit-base-patch16}}'     # METER's image encoder
images = [
    dict(type='LoadImage'),
    dict(type='CropSquare', side=576),
    dict(type='Patchify', patch_size=16)]
texts = [dict(type='TokenizeKorean', tokenizer=bert, max_text_len=50)]                       # METER's
model = dict(encoder=dict(image_encoder_weights=clip, text_encoder=dict(pretrained=bert)))
train_dataloader = dict(
    batch_size=64,                                         # 8 processes x 64 = METER's 512
    collate_fn=dict(micro_batches=8),                      # 1,297 states an image: the same steps in less memory
    dataset=dict(image_pipeline=images, text_pipeline=texts))
val_dataloader = dict(batch_size=32, dataset=dict(image_pipeline=images, text_pipeline=texts))
optim_wrapper = dict(
    optimizer=dict(lr=5e-6),                               # METER's configuration for VQAv2
    paramwise_cfg=dict(head_lr_mult=50.0, lr_mults={'encoder.cross_modal': 5.0}))   # likewise
auto_scale_lr = dict(base_batch_size=512)                  # METER's
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
