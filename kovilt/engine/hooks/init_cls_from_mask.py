"""Initialises [CLS] for fine-tuning with what pre-training has learned about [MASK]."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kovilt.engine.checkpoints import unwrap_model
from kovilt.registry import HOOKS


@HOOKS.register_module()
class InitCLSFromMaskHook(Hook):
    """Gives [CLS] the word embedding of [MASK] and the first word's position embedding, before fine-tuning starts.

    Masked language modelling has taught the state of [MASK] to collect from the text and the image what belongs in its
    place, while the state of [CLS] tells whether the two match. The former is the better start for an answer. A
    resumed run and a run from random weights are not changed.
    """

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        if runner.iter or runner.load_from is None:
            return
        model = unwrap_model(runner.model)
        tokenizer = runner.train_dataloader.dataset.tokenizer
        word_embeddings = model.encoder.text.word_embed.weight  # (vocabulary, D)
        position_embeddings = model.encoder.text.pos_embed.weight  # (max_text_len, D)
        word_embeddings[tokenizer.cls_token_id] = word_embeddings[tokenizer.mask_token_id]
        position_embeddings[0] = position_embeddings[1]
