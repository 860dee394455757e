"""The three objectives, L = L1 + L2 + 0.5 L3 (the paper's section 3)."""
_base_ = './vilt_base.py'
model = dict(
    type='ViLTForPreTraining',
    mlm_head=dict(
        type='MLMHead',
        mask_token_id=None, special_token_ids=None,        # the tokenizer's
        mask_ratio=0.15, whole_word=True, loss_weight=1.0),  # the paper; whole words as in ViLT 3.3
    itm_head=dict(type='ITMHead', loss_weight=1.0),
    wpa_head=dict(
        type='WPAHead',
        loss_weight=0.5,                                   # the paper; ViLT and UNITER 0.1
        mismatched='ignore',                               # the paper minimises matched distances only
        beta=0.5, iterations=50))                          # UNITER's and ViLT's IPOT
