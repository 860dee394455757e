"""Pre-training of METER on the captions that Ko-ViLT has: masked words and image-text matching, from CLIP and a BERT.

Data: AI-Hub 261, MS COCO images with Korean captions (about 600,000 pairs), in data/aihub_261; the image encoder's
    CLIP and the text encoder's BERT, from the hub or the folders that KOVILT_CLIP and KOVILT_TOKENIZER name.
Expected: mlm_accuracy and itm_accuracy rise; nobody has published METER in Korean.
Time: about 24.6 million pairs, each with two passes; METER's own 100,000 steps of 4,096 pairs took its authors about 8
    days on 8 A100 (METER's issue 16).
Command: bash tools/dist_train.sh configs/meter_pretrain_coco.py 8 --amp
"""
_base_ = ['./_base_/runtime.py', './_base_/models/meter_pretraining.py',
          './_base_/datasets/aihub_coco_korean.py', './_base_/schedules/pretraining.py']
bert = '{{$KOVILT_TOKENIZER:kykim/bert-kor-base}}'         # the same weights' own tokenizer reads the captions
clip = '{{$KOVILT_CLIP:openai/clip-vit-base-patch16}}'     # METER's image encoder
images = [
    dict(type='LoadImage'),
    dict(type='CropSquare', side=288),                     # of METER's best model; its default is 224
    dict(type='Patchify', patch_size=16)]
texts = [dict(type='TokenizeKorean', tokenizer=bert, max_text_len=50)]                       # METER's
model = dict(encoder=dict(image_size=288, image_encoder_weights=clip, text_encoder=dict(pretrained=bert)))
train_dataloader = dict(
    batch_size=512,                                        # 8 processes x 512 = METER's 4,096
    collate_fn=dict(micro_batches=16),                     # 325 states an image: 32 pairs in memory at a time
    dataset=dict(image_pipeline=images, text_pipeline=texts))
val_dataloader = dict(dataset=dict(image_pipeline=images, text_pipeline=texts))
# 10 % of warm-up, AdamW (0.9, 0.98) and weight decay 0.01 are METER's too, and stand in the schedule. So do 40 epochs:
# as often as METER's 100,000 steps pass over its captions, which are ViLT's.
optim_wrapper = dict(
    optimizer=dict(lr=1e-5),                               # METER's configuration for pre-training
    paramwise_cfg=dict(
        head_prefixes=['mlm_head', 'itm_head'], head_lr_mult=5.0, lr_mults={'encoder.cross_modal': 5.0}))   # likewise
