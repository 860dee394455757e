"""Image-text matching: half of the texts get another image, and the text [CLS] must tell which (section 3, L2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.rng import uniform
from kovilt.modules.vilt import init_weights

_EXCHANGE, _PARTNER = 4, 5  # streams of a sample's chance


class ITMHead(nn.Module):
    """Two scores for each pair from its pooled state: does not match, matches.

    Args:
        hidden_size: D.
        loss_weight: weight of L2.
        init_std: standard deviation of the weights' start.
    """

    def __init__(self, *, hidden_size: int, loss_weight: float = 1.0, init_std: float = 0.02) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.fc = nn.Linear(hidden_size, 2)
        init_weights(self.fc, init_std)

    @staticmethod
    def sample_negatives(image_index: Tensor, image_id: Tensor, sample_seed: Tensor) -> tuple[Tensor, Tensor]:
        """Give half of the pairs (rounded down) another image of the batch.

        image_index int64 (B,), image_id int64 (I,), sample_seed int64 (B,), all on the host. Returns the exchanged
        image_index and `matched` bool (B,). A partner never has the identity of the true image; a pair for which the
        batch holds no other image stays matched.
        """
        exchange = torch.zeros(len(image_index), dtype=torch.bool)
        exchange[uniform(sample_seed, 1, _EXCHANGE)[:, 0].argsort()[: len(image_index) // 2]] = True
        others = image_id[None, :] != image_id[image_index][:, None]  # (B, I) images of another identity
        exchange &= others.any(dim=1)
        nth = (uniform(sample_seed, 1, _PARTNER)[:, 0] * others.sum(dim=1)).long()  # which of the others
        partner = (others.cumsum(dim=1) > nth[:, None]).int().argmax(dim=1)
        return torch.where(exchange, partner, image_index), ~exchange

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
