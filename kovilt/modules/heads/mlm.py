"""Masked language modelling (MLM): predict masked words from the other words and the image (section 3, L1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.initialization import init_weights
from kovilt.modules.packing import needs_shape_buckets, pad_to_bucket, to_device
from kovilt.modules.rng import uniform
from kovilt.modules.transformer import Activation, activation_function
from kovilt.ranges import Index, NotNegative, Positive, Range, Size, VocabSize, check_arguments

IGNORE_INDEX = -100  # label of a token that is not predicted; torch's default
_STREAM_SELECT, _STREAM_REPLACE, _STREAM_TOKEN = 1, 2, 3  # of a sample's random numbers


class MLMHead(nn.Module):
    """Predict masked tokens: Linear, activation, LayerNorm, then one score for each token of the vocabulary.

    Of the selected words 80 % become [MASK], 10 % random tokens, and 10 % stay as they are (BERT, arXiv 1810.04805).
    At least one word of every caption is selected; [CLS], [SEP] and padding never are.

    Shapes: B captions, L length, W tokens of all captions together, M of them masked, D hidden size.

    Args:
        hidden_size, vocab_size, activation, init_std: of the encoder; the model passes them.
        mask_token_id: id of [MASK].
        special_token_ids: ids that never replace a word.
        mask_ratio: share of the words that is selected, 0.15 in the paper.
        whole_word: select whole Korean words (eojeol: a noun with its particle) or single tokens.
        loss_weight: weight of L1, 1 in the paper.
        content_words: ids of tokens that mark a word as a content word, such as a noun; in a config also the words
            themselves, which `complete_model_config` turns into ids.
        content_ratio: share of the content words that is selected; None = mask_ratio.
    """

    @check_arguments
    def __init__(
        self,
        *,
        hidden_size: Size,
        vocab_size: VocabSize,
        mask_token_id: Index,
        special_token_ids: Sequence[int],
        mask_ratio: Annotated[float, Range(gt=0, lt=1)],
        whole_word: bool,
        loss_weight: NotNegative,
        content_words: Sequence[int | str] = (),
        content_ratio: Annotated[float, Range(gt=0, le=1)] | None = None,
        activation: Activation,
        init_std: Positive,
    ) -> None:
        super().__init__()
        content_ratio = mask_ratio if content_ratio is None else content_ratio
        self.content_words = torch.tensor(sorted(map(int, content_words)), dtype=torch.int64)
        self.content_ratio = content_ratio
        self.vocab_size, self.mask_token_id = vocab_size, mask_token_id
        self.special_token_ids = sorted(set(special_token_ids))
        self.mask_ratio, self.whole_word, self.loss_weight = mask_ratio, whole_word, loss_weight
        self.fc = nn.Linear(hidden_size, hidden_size)
        self.activation = activation_function(activation)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.decoder = nn.Linear(hidden_size, vocab_size)
        self.apply(lambda module: init_weights(module, init_std))

    def mask_tokens(self, input_ids: Tensor, word_ids: Tensor, sample_seed: Tensor) -> tuple[Tensor, Tensor]:
        """Mask a share of the words of each caption.

        input_ids and word_ids int64 (B, L), word_ids -1 on special tokens and padding; sample_seed int64 (B,). Returns
        the masked ids and the labels (the true id where masked, IGNORE_INDEX elsewhere), both (B, L).
        """
        token_mask = word_ids >= 0
        length = input_ids.shape[1]
        # The unit that is masked as a whole, by number: all tokens of a unit take the random numbers of that place.
        unit = word_ids.clamp(0, length - 1) if self.whole_word else torch.arange(length).expand_as(input_ids)
        rank = uniform(sample_seed, length, _STREAM_SELECT).gather(1, unit)
        rank = (rank / self._mask_ratios(input_ids, unit, token_mask)).masked_fill(~token_mask, torch.inf)
        lowest = rank.min(dim=1, keepdim=True).values  # of the word that is masked if no other is
        masked = ((rank < 1) | (rank == lowest)) & token_mask
        replace = uniform(sample_seed, length, _STREAM_REPLACE).gather(1, unit)
        ids = input_ids.masked_fill(masked & (replace < 0.8), self.mask_token_id)
        randomised = masked & (replace >= 0.8) & (replace < 0.9)
        ids = torch.where(randomised, self._random_tokens(sample_seed, length), ids)
        return ids, input_ids.masked_fill(~masked, IGNORE_INDEX)

    def _mask_ratios(self, input_ids: Tensor, unit: Tensor, token_mask: Tensor) -> Tensor:
        """The probability that each token is masked, (B, L). A content word has at least one token of content_words."""
        content = (torch.isin(input_ids, self.content_words) & token_mask).long()
        content = torch.zeros_like(content).scatter_reduce(1, unit, content, 'amax').gather(1, unit).bool()
        return torch.where(content, self.content_ratio, self.mask_ratio).double()

    def _random_tokens(self, sample_seed: Tensor, length: int) -> Tensor:
        """Tokens sampled uniformly from the vocabulary without its special tokens, (B, L)."""
        choices = self.vocab_size - len(self.special_token_ids)
        token = (uniform(sample_seed, length, _STREAM_TOKEN) * choices).long()
        for special in self.special_token_ids:  # in ascending order: skip each
            token = token + (token >= special)
        return token

    def forward(self, states: Tensor) -> Tensor:
        """States (M, D) to scores (M, vocab_size)."""
        return self.decoder(self.norm(self.activation(self.fc(states))))

    def loss(self, states: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """states (W, D) on the device and labels (W,) on the host; only masked tokens are scored.

        The loss is 0, not NaN, when nothing is masked.
        """
        index = (labels != IGNORE_INDEX).nonzero().squeeze(1)  # (M,)
        labels = labels[index]
        count = max(len(index), 1)
        if needs_shape_buckets(states.device):
            index, labels = pad_to_bucket(index), pad_to_bucket(labels, IGNORE_INDEX)
        labels = to_device(labels, states.device)
        scores = self(states.index_select(0, to_device(index, states.device))).float()
        loss = F.cross_entropy(scores, labels, ignore_index=IGNORE_INDEX, reduction='sum')
        return {
            'mlm_loss': self.loss_weight * loss / count,
            'mlm_accuracy': (scores.argmax(dim=1) == labels).sum() / count,
        }
