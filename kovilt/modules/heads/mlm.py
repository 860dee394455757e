"""Masked words: hide some words of a caption and guess them from the rest and the image (section 3, L1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.packing import bucket_size, needs_shape_buckets, to_device
from kovilt.modules.rng import uniform
from kovilt.modules.transformer import Activation, activation_function
from kovilt.modules.vilt import init_weights

IGNORE = -100
_HIDE, _FATE, _WORD = 1, 2, 3  # streams of a sample's chance


class MLMHead(nn.Module):
    """Guesses the hidden tokens: Linear, activation, LayerNorm, then one score for each token of the vocabulary.

    Of the chosen words 80 % become [MASK], 10 % a random token and 10 % stay as they are (BERT). At least one word of
    every caption is chosen; [CLS], [SEP] and padding never are.

    Shapes: B captions, L length, W words of all captions in packed order, M of them hidden, D hidden size.

    Args:
        hidden_size: D.
        vocab_size: number of tokens.
        mask_token_id: id of [MASK].
        special_token_ids: ids that never stand in for a word.
        mask_ratio: share of the words that are chosen, 0.15 in the paper.
        content_words: tokens (in a config also their words, the runner asks the tokenizer) by which a word is known to
            carry content, such as nouns; they are chosen by `content_ratio`.
        content_ratio: share of those words that is chosen; None = mask_ratio.
        whole_word: choose whole Korean words (eojeol: a noun with its particle) or single tokens.
        loss_weight: weight of L1.
        activation: 'gelu' (ViLT) or 'relu'.
        init_std: standard deviation of the weights' start.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        vocab_size: int,
        mask_token_id: int,
        special_token_ids: Sequence[int],
        mask_ratio: float = 0.15,
        content_words: Sequence[int] = (),
        content_ratio: float | None = None,
        whole_word: bool = True,
        loss_weight: float = 1.0,
        activation: Activation = 'gelu',
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio {mask_ratio} is not between 0 and 1')
        content_ratio = mask_ratio if content_ratio is None else content_ratio
        if not 0 < content_ratio <= 1:
            raise ValueError(f'content_ratio {content_ratio} is not above 0 and at most 1')
        self.content_words, self.content_ratio = torch.tensor(sorted(content_words), dtype=torch.int64), content_ratio
        self.vocab_size, self.mask_token_id = vocab_size, mask_token_id
        self.special_token_ids = sorted(set(special_token_ids))
        self.mask_ratio, self.whole_word, self.loss_weight = mask_ratio, whole_word, loss_weight
        self.fc = nn.Linear(hidden_size, hidden_size)
        self.activation = activation_function(activation)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.decoder = nn.Linear(hidden_size, vocab_size)
        self.apply(lambda module: init_weights(module, init_std))

    def mask_tokens(self, input_ids: Tensor, word_ids: Tensor, sample_seed: Tensor) -> tuple[Tensor, Tensor]:
        """Hide a share of the words of each caption.

        input_ids and word_ids int64 (B, L), word_ids -1 on what is no word; sample_seed int64 (B,). Returns the damaged
        ids and the labels (the true id where hidden, IGNORE elsewhere), both (B, L).
        """
        word_mask = word_ids >= 0
        length = input_ids.shape[1]
        unit = word_ids.clamp(0, length - 1) if self.whole_word else torch.arange(length).expand_as(input_ids)
        # one draw a word
        draw = uniform(sample_seed, length, _HIDE).gather(1, unit) / self._ratios(input_ids, unit, word_mask)
        draw = draw.masked_fill(~word_mask, torch.inf)
        least = draw.min(dim=1, keepdim=True).values  # of the word to hide when no other is
        hidden = ((draw < 1) | (draw == least)) & word_mask
        fate = uniform(sample_seed, length, _FATE).gather(1, unit)
        damaged = input_ids.masked_fill(hidden & (fate < 0.8), self.mask_token_id)
        swapped = hidden & (fate >= 0.8) & (fate < 0.9)
        damaged = torch.where(swapped, self._random_tokens(sample_seed, length), damaged)
        return damaged, input_ids.masked_fill(~hidden, IGNORE)

    def _ratios(self, input_ids: Tensor, unit: Tensor, word_mask: Tensor) -> Tensor:
        """How probably each token is chosen, (B, L): a word carries content when any of its pieces does."""
        content = (torch.isin(input_ids, self.content_words) & word_mask).long()
        content = torch.zeros_like(content).scatter_reduce(1, unit, content, 'amax').gather(1, unit).bool()
        return torch.where(content, self.content_ratio, self.mask_ratio).double()

    def _random_tokens(self, sample_seed: Tensor, length: int) -> Tensor:
        """Tokens drawn evenly from the vocabulary without its special ones, (B, L)."""
        choices = self.vocab_size - len(self.special_token_ids)
        token = (uniform(sample_seed, length, _WORD) * choices).long()
        for special in self.special_token_ids:  # in rising order: step over each
            token = token + (token >= special)
        return token

    def forward(self, words: Tensor) -> Tensor:
        """States (M, D) to scores (M, vocab_size)."""
        return self.decoder(self.norm(self.activation(self.fc(words))))

    def loss(self, words: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """words (W, D) and, on the host, labels (W,), both in packed order. Only hidden places are scored.

        Nothing hidden gives 0, not NaN.
        """
        hidden = (labels != IGNORE).nonzero().squeeze(1)
        count = max(len(hidden), 1)
        labels = labels[hidden]
        if needs_shape_buckets(words.device):
            more = bucket_size(len(hidden)) - len(hidden)
            hidden, labels = F.pad(hidden, (0, more)), F.pad(labels, (0, more), value=IGNORE)
        labels = to_device(labels, words.device)
        scores = self(words.index_select(0, to_device(hidden, words.device))).float()
        loss = F.cross_entropy(scores, labels, ignore_index=IGNORE, reduction='sum')
        return {
            'mlm_loss': self.loss_weight * loss / count,
            'mlm_accuracy': (scores.argmax(dim=1) == labels).sum() / count,
        }
