"""The paper's encoder: 88,154,112 + 768 x vocabulary parameters."""
model = dict(
    encoder=dict(
        type='ViLT',
        hidden_size=768, num_layers=12, num_heads=12, mlp_ratio=4.0,   # ViT-B (ViLT 3.1; the paper's section 3)
        patch_size=32, image_size=384,                                 # 12 x 12 positions, interpolated to each image
        vocab_size=None,                                               # the tokenizer's
        max_text_len=40,                                               # ViLT 4.1
        drop_rate=0.1),                                                # ViLT's code: embeddings, attention output, MLP
    data_preprocessor=dict(type='ViLTPreprocessor'))
