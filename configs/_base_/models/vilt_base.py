"""ViLT-B/32, the paper's encoder of 88,154,112 + 768 x vocabulary parameters, and the input that it takes.

KOVILT_TOKENIZER names another tokenizer: a folder, a vocab.txt or a name on the HuggingFace hub.
"""
import os

tokenizer = os.environ.get('KOVILT_TOKENIZER', 'kykim/bert-kor-base')   # the paper's Korean WordPiece (LMkor)
image_size = 384                                                       # pixels of the shorter side (ViLT 4.1)
max_text_len = 40                                                      # tokens (ViLT 4.1)

model = dict(
    encoder=dict(
        type='ViLT',
        hidden_size=768, num_layers=12, num_heads=12, mlp_ratio=4.0,   # ViT-B (ViLT 3.1; the paper's section 3)
        patch_size=32, image_size=image_size,                          # 12 x 12 positions, interpolated to each image
        vocab_size=None,                                               # the tokenizer's
        max_text_len=max_text_len,
        drop_rate=0.1),                                                # ViLT's code: embeddings, attention output, MLP
    data_preprocessor=dict(type='ViLTPreprocessor'))

image_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeViLT', short=image_size, long=int(1333 / 800 * image_size)),            # ViLT's rule: 639 pixels
    dict(type='Patchify')]
text_pipeline = [dict(type='TokenizeKorean', tokenizer=tokenizer, max_text_len=max_text_len)]
train_dataloader = dict(
    dataset=dict(reader=dict(split='train'), image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=True),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate', micro_batches=1))
val_dataloader = dict(
    dataset=dict(reader=dict(split='val'), test_mode=True, image_pipeline=image_pipeline, text_pipeline=text_pipeline),
    sampler=dict(type='ImageGroupSampler', shuffle=False),
    batch_sampler=dict(type='GlobalBatchSampler'),
    collate_fn=dict(type='PairCollate'))
