"""Visual question answering (VQA) as classification over the answers of the training set."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.initialization import init_weights
from kovilt.ranges import NotNegative, Positive, Size, VocabSize, check_arguments


class VQAHead(nn.Module):
    """Linear D -> 2D, LayerNorm, GELU, Linear 2D -> answers, on the pooled state (ViLT's order of norm and GELU).

    Shapes: B pairs, C answers, D hidden size.

    Args:
        hidden_size, init_std: of the encoder; the model passes them.
        num_answers: C, the size of the answer vocabulary.
        loss: 'cross_entropy' for data sets with one answer a question (AI-Hub); 'bce', binary cross-entropy summed over
            the answers (ViLT on VQAv2), for data sets with several.
        loss_weight: weight of the loss.
        pooled_size: width of the pooled state where it is not hidden_size, as for METER; the model passes it.
    """

    @check_arguments
    def __init__(
        self,
        *,
        hidden_size: Size,
        num_answers: VocabSize,
        loss: Literal['cross_entropy', 'bce'],
        loss_weight: NotNegative = 1.0,
        pooled_size: Size | None = None,
        init_std: Positive,
    ) -> None:
        super().__init__()
        self.num_answers, self.loss_type, self.loss_weight = num_answers, loss, loss_weight
        self.fc1 = nn.Linear(pooled_size or hidden_size, 2 * hidden_size)
        self.norm = nn.LayerNorm(2 * hidden_size)
        self.fc2 = nn.Linear(2 * hidden_size, num_answers)
        self.apply(lambda module: init_weights(module, init_std))

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, pooled_size) to scores (B, C)."""
        return self.fc2(F.gelu(self.norm(self.fc1(pooled))))

    def loss(self, pooled: Tensor, label: Tensor) -> dict[str, Tensor]:
        """pooled (B, pooled_size) and label, int64 (B,) or soft (B, C).

        Label -1 is an answer out of the vocabulary: it adds no loss and counts as wrong.
        """
        scores = self(pooled).float()
        soft = label.float()
        if label.ndim == 1:
            soft = F.one_hot(label.clamp(min=0), self.num_answers).float() * (label >= 0)[:, None]
        if self.loss_type == 'bce':
            loss = F.binary_cross_entropy_with_logits(scores, soft, reduction='sum') / len(scores)
        else:
            loss = -(soft * scores.log_softmax(dim=1)).sum() / len(scores)
        return {
            'vqa_loss': self.loss_weight * loss,
            'vqa_accuracy': soft.gather(1, scores.argmax(dim=1, keepdim=True)).mean(),
        }
