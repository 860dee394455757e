"""An answer head that compares directions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.registry import MODELS


@MODELS.register_module()
class CosineVQAHead(nn.Module):
    """Scores each answer by the cosine between the pooled state and the answer's own vector.

    Args:
        hidden_size: width of the pooled state; the model hands it over, as it does `init_std`.
        num_answers: number of answers; None in a config takes the training data's.
        temperature: cosines are divided by it.
        init_std: standard deviation of the answers' vectors at the start.
    """

    def __init__(
        self, *, hidden_size: int, num_answers: int, temperature: float = 0.1, init_std: float = 0.02
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.answers = nn.Parameter(torch.randn(num_answers, hidden_size) * init_std)

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, D) to scores (B, C)."""
        return F.normalize(pooled, dim=1) @ F.normalize(self.answers, dim=1).T / self.temperature

    def loss(self, pooled: Tensor, label: Tensor) -> dict[str, Tensor]:
        """pooled (B, D), label int64 (B,) with -1 = outside the vocabulary: the names that ViLTForVQA logs."""
        scores = self(pooled).float()
        return {
            'vqa_loss': F.cross_entropy(scores, label, ignore_index=-1, reduction='sum') / len(label),
            'vqa_accuracy': (scores.argmax(dim=1) == label).float().mean(),
        }
