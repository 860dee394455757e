"""Fine-tuning that begins where masked words have ended."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from kovilt.registry import HOOKS


@HOOKS.register_module()
class InitCLSFromMaskHook(Hook):
    """[CLS] starts as one more [MASK] before the question, when the encoder comes from pre-training.

    Pre-training has taught the state of [MASK] to fetch from words and image what is asked for there; that of [CLS]
    knows whether a pair matches. So the first is the better start for answers: [CLS] gets the word vector of [MASK] and
    the place of a text's first word. A resumed run and one from random weights are left as they are.
    """

    priority = 'NORMAL'

    @torch.no_grad()
    def before_train(self, runner) -> None:
        if runner.iter or runner.load_from is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        text, tokenizer = model.encoder.text, runner.train_dataloader.dataset.tokenizer
        words, places = text.word_embed.weight, text.pos_embed.weight
        words[tokenizer.cls_token_id] = words[tokenizer.mask_token_id]
        places[0] = places[1]
