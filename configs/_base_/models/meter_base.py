"""METER's encoder as published: CLIP's ViT-B/16, a BERT, 6 layers of co-attention a side (arXiv 2111.02387)."""
model = dict(
    encoder=dict(
        type='METER',
        image_encoder=dict(
            type='mmpretrain.VisionTransformer', patch_size=16, out_type='raw',
            arch=dict(embed_dims=768, num_layers=11, num_heads=12, feedforward_channels=3072),   # 12 less the last
            pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5),                                   # CLIP's
            layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU'))),                         # CLIP's
        text_encoder=dict(type='TextEncoder', model_type='bert', hidden_size=768, num_layers=12, num_heads=12),
        image_size=576,                                    # METER's for VQA; 224 or 288 in its pre-training
        vocab_size=None,                                   # the tokenizer's
        max_text_len=512,                                  # a BERT's positions
        hidden_size=768, num_layers=6, num_heads=12, drop_rate=0.1),
    data_preprocessor=dict(
        type='METERPreprocessor',
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)))     # CLIP's
