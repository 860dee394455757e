"""An answer head that scores by cosine similarity."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.registry import MODELS


@MODELS.register_module()
class CosineVQAHead(nn.Module):
    """Score each answer by the cosine between the pooled state and a learned vector of the answer.

    Shapes: B questions, D hidden size, C answers.

    Args:
        hidden_size: D; the model passes it, as it passes `init_std`.
        num_answers: C; with None in a config it is the number of answers in the training data.
        temperature: divides the cosines.
        init_std: standard deviation of the initial vectors.
    """

    def __init__(
        self, *, hidden_size: int, num_answers: int, temperature: float = 0.1, init_std: float = 0.02
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.answers = nn.Parameter(torch.randn(num_answers, hidden_size) * init_std)

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, D) float. Returns scores (B, C)."""
        return F.normalize(pooled, dim=1) @ F.normalize(self.answers, dim=1).T / self.temperature

    def loss(self, pooled: Tensor, label: Tensor) -> dict[str, Tensor]:
        """pooled (B, D); label int64 (B,), -1 = out-of-vocabulary. Returns the values that ViLTForVQA logs."""
        scores = self(pooled).float()
        return {
            'vqa_loss': F.cross_entropy(scores, label, ignore_index=-1, reduction='sum') / len(label),
            'vqa_accuracy': (scores.argmax(dim=1) == label).float().mean(),
        }
