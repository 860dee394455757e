"""Visual question answering (VQA) as classification over the answers of the training set."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.initialization import init_weights
from kovilt.ranges import NotNegative, Positive, Share, Size, VocabSize, check_arguments


class VQAHead(nn.Module):
    """Linear D -> 2D, LayerNorm, GELU, Linear 2D -> answers, on the pooled state (ViLT's order of norm and GELU).

    Shapes: B pairs, C answers, D hidden size.

    Args:
        hidden_size, init_std: of the encoder; the model passes them.
        num_answers: C, the size of the answer vocabulary.
        loss: 'cross_entropy' for data sets with one answer a question (AI-Hub); 'bce', binary cross-entropy summed over
            the answers (ViLT on VQAv2), for data sets with several.
        loss_weight: weight of the loss.
        distillation_weight: share, 0 to 1, of the loss of a pair that is the divergence from the teacher's scores; the
            rest is that of its label (Hinton et al., Distilling the Knowledge in a Neural Network, 2015). 0 = labels
            alone. Needs loss='cross_entropy'.
        distillation_temperature: T, by which the scores of teacher and student are divided there; above 1 the less
            probable answers count for more.
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
        distillation_weight: Share = 0.0,
        distillation_temperature: Positive = 1.0,
        pooled_size: Size | None = None,
        init_std: Positive,
    ) -> None:
        super().__init__()
        if distillation_weight and loss != 'cross_entropy':
            raise ValueError(f"distillation_weight is {distillation_weight}, which needs loss='cross_entropy'")
        self.num_answers, self.loss_type, self.loss_weight = num_answers, loss, loss_weight
        self.distillation_weight, self.distillation_temperature = distillation_weight, distillation_temperature
        self.fc1 = nn.Linear(pooled_size or hidden_size, 2 * hidden_size)
        self.norm = nn.LayerNorm(2 * hidden_size)
        self.fc2 = nn.Linear(2 * hidden_size, num_answers)
        self.apply(lambda module: init_weights(module, init_std))

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, pooled_size) to scores (B, C)."""
        return self.fc2(F.gelu(self.norm(self.fc1(pooled))))

    def loss(self, pooled: Tensor, label: Tensor, teacher_log_probs: Tensor | None = None) -> dict[str, Tensor]:
        """pooled (B, pooled_size) and label, int64 (B,) or soft (B, C).

        Label -1 is an answer out of the vocabulary: it adds no loss and counts as wrong.

        Args:
            teacher_log_probs: float32 (B, C), as in `kovilt.batch`; given where distillation_weight is above 0.
        """
        scores = self(pooled).float()
        soft = label.float()
        if label.ndim == 1:
            soft = F.one_hot(label.clamp(min=0), self.num_answers).float() * (label >= 0)[:, None]
        accuracy = soft.gather(1, scores.argmax(dim=1, keepdim=True)).mean()
        losses = {}
        if self.distillation_weight and teacher_log_probs is not None:
            divergence, is_scored = self._divergence(scores, teacher_log_probs)
            share = self.distillation_weight * is_scored  # (B,); pairs without scores learn from their label alone
            soft = soft * (1 - share)[:, None]
            losses['distillation_loss'] = self.loss_weight * (share * divergence).sum() / len(scores)
        if self.loss_type == 'bce':
            loss = F.binary_cross_entropy_with_logits(scores, soft, reduction='sum') / len(scores)
        else:
            loss = -(soft * scores.log_softmax(dim=1)).sum() / len(scores)
        return {'vqa_loss': self.loss_weight * loss, **losses, 'vqa_accuracy': accuracy}

    def _divergence(self, scores: Tensor, teacher_log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """T^2 KL(teacher || student) at temperature T of each pair, and whether the teacher has scores for it, (B,).

        The teacher's probability is that among the answers which it lists. T^2 keeps the size of the gradients as T
        grows (Hinton et al. 2015, section 2).
        """
        is_scored = teacher_log_probs.isfinite().any(dim=1)
        listed = torch.where(is_scored[:, None], teacher_log_probs, 0.0)  # a softmax of -inf alone would be NaN
        temperature = self.distillation_temperature
        teacher = (listed / temperature).softmax(dim=1)
        student = (scores / temperature).log_softmax(dim=1)
        divergence = (torch.xlogy(teacher, teacher) - teacher * student).sum(dim=1)
        return temperature**2 * divergence, is_scored.float()
