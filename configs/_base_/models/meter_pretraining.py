"""METER's two objectives: masked words and image-text matching, each with weight 1 (arXiv 2111.02387, section 3.3)."""
_base_ = './meter_base.py'
model = dict(
    type='METERForPreTraining',
    mlm_head=dict(
        type='MLMHead',
        mask_token_id=None, special_token_ids=None,        # the tokenizer's
        mask_ratio=0.15, whole_word=True, loss_weight=1.0),  # METER's configuration
    itm_head=dict(type='ITMHead', loss_weight=1.0))
