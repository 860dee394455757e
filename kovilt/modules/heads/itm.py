"""Image-text matching (ITM): half of the texts get another image; the pooled state must tell which (section 3, L2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.initialization import init_weights
from kovilt.modules.rng import uniform
from kovilt.ranges import NotNegative, Positive, Size, check_arguments

_STREAM_EXCHANGE, _STREAM_NEGATIVE = 4, 5  # of a sample's random numbers


class ITMHead(nn.Module):
    """Two scores for each pair from its pooled state: does not match, matches.

    Shapes: B pairs, I images, D hidden size.

    Args:
        hidden_size, init_std: width of the pooled state, and of the encoder; the model passes them.
        loss_weight: weight of L2, 1 in the paper.
    """

    @check_arguments
    def __init__(self, *, hidden_size: Size, loss_weight: NotNegative, init_std: Positive) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.fc = nn.Linear(hidden_size, 2)
        init_weights(self.fc, init_std)

    @staticmethod
    def sample_negatives(image_index: Tensor, image_id: Tensor, sample_seed: Tensor) -> tuple[Tensor, Tensor]:
        """Give half of the pairs (rounded down) another image of the batch.

        image_index int64 (B,), image_id int64 (I,) and sample_seed int64 (B,), all on the host. Returns the new
        image_index and `matched`, bool (B,). A negative never has the identity of the true image; a pair stays matched
        when the batch holds no other image.
        """
        exchanged = torch.zeros(len(image_index), dtype=torch.bool)
        exchanged[uniform(sample_seed, 1, _STREAM_EXCHANGE)[:, 0].argsort()[: len(image_index) // 2]] = True
        candidates = image_id[None, :] != image_id[image_index][:, None]  # (B, I): images of another identity
        exchanged &= candidates.any(dim=1)
        nth = (uniform(sample_seed, 1, _STREAM_NEGATIVE)[:, 0] * candidates.sum(dim=1)).long()  # which candidate
        negative = (candidates.cumsum(dim=1) > nth[:, None]).int().argmax(dim=1)
        return torch.where(exchanged, negative, image_index), ~exchanged

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, D) to scores (B, 2)."""
        return self.fc(pooled)

    def loss(self, pooled: Tensor, matched: Tensor) -> dict[str, Tensor]:
        """pooled (B, D), matched bool (B,)."""
        scores = self(pooled).float()
        return {
            'itm_loss': self.loss_weight * F.cross_entropy(scores, matched.long()),
            'itm_accuracy': (scores.argmax(dim=1) == matched).float().mean(),
        }
