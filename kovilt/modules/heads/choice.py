"""Multiple choice: the options of a question compete; the pooled state of each pair must tell how well it fits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.initialization import init_weights
from kovilt.modules.packing import to_device
from kovilt.ranges import NotNegative, Positive, Size, check_arguments


class ChoiceHead(nn.Module):
    """One score for each pair of a question and an option; the softmax over the options of a question gives the answer.

    Shapes: B pairs, Q questions, N options of the question with the most, D width of the pooled state.

    Args:
        hidden_size, init_std: width of the pooled state, and of the encoder; the model passes them.
        loss_weight: weight of the loss.
    """

    @check_arguments
    def __init__(self, *, hidden_size: Size, loss_weight: NotNegative = 1.0, init_std: Positive) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.fc = nn.Linear(hidden_size, 1)
        init_weights(self.fc, init_std)

    @staticmethod
    def from_matching(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The weight (1, D) and bias (1,) whose score is that of "matches" minus that of "does not match".

        weight (2, D) and bias (2,) are those of an `ITMHead`. The score is then the log-odds that the text of the pair
        belongs to the image, so that a pre-trained model can choose before it is fine-tuned.
        """
        return weight[1:] - weight[:1], bias[1:] - bias[:1]

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, D) to scores (B, 1)."""
        return self.fc(pooled)

    def loss(self, pooled: Tensor, label: Tensor, option_offsets: Tensor) -> dict[str, Tensor]:
        """pooled (B, D), label int64 (Q,), option_offsets int64 (Q + 1,) on the host."""
        scores = pad_options(self(pooled).squeeze(1).float(), option_offsets)
        return {
            'choice_loss': self.loss_weight * F.cross_entropy(scores, label),
            'choice_accuracy': (scores.argmax(dim=1) == label).float().mean(),
        }


def pad_options(scores: Tensor, option_offsets: Tensor) -> Tensor:
    """The scores (B,) of all pairs as those of each question, (Q, N), with -inf where a question has fewer options."""
    place = torch.arange(int(option_offsets.diff().max()))
    index = option_offsets[:-1, None] + place
    is_option = index < option_offsets[1:, None]
    padded = scores[to_device(index.where(is_option, 0), scores.device)]
    return padded.masked_fill(~to_device(is_option, scores.device), float('-inf'))
