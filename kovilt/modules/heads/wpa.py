"""Word-patch alignment (WPA): the cost of transporting a caption's tokens to the image's patches (section 3, L3)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from kovilt.modules.transport import ipot, transport_cost, transport_distance
from kovilt.ranges import Layers, NotNegative, Positive, Range, check_arguments


class WPAHead(nn.Module):
    """Optimal-transport distance between the token states and the patch states of each pair.

    Computed in float32 under any autocast. It has no parameters.

    Shapes: B pairs, L text length, P patches, D hidden size.

    Args:
        loss_weight: weight of L3; 0.5 in the paper, 0.1 in ViLT.
        mismatched: 'ignore' minimises the mean distance of the matched pairs (the paper); 'push' minimises the sum over
            matched pairs minus the sum over mismatched pairs, divided by the number of all pairs (ViLT, UNITER).
        beta: strength of IPOT's proximal term; 0.5 in ViLT and UNITER.
        iterations: of IPOT; 50 in ViLT and UNITER. With states that share a direction, as those of deep layers do, the
            distance is then 4 % off the exact one; with beta 0.05 and 30 iterations it is within 1 %.
        mean_center: subtract from the states their mean over the tokens, or patches, of their pair. What all states of
            a pair have in common, such as whether it matches, then brings no token nearer to any patch.
        block: the block of the encoder, counted from 1, whose states are aligned; None = the last, after the final norm
            (the paper). In a shallow encoder the last states encode whether the pair matches, so that 'push' turns into
            a second matching objective; an earlier block then aligns tokens with patches.
    """

    @check_arguments
    def __init__(
        self,
        *,
        loss_weight: NotNegative,
        mismatched: Literal['ignore', 'push'],
        beta: Positive,
        iterations: Annotated[int, Range(ge=1, le=10_000)],
        mean_center: bool = False,
        block: Layers | None = None,
    ) -> None:
        super().__init__()
        self.loss_weight, self.mismatched, self.beta, self.iterations = loss_weight, mismatched, beta, iterations
        self.mean_center, self.block = mean_center, block

    def forward(self, tokens: Tensor, token_mask: Tensor, patches: Tensor, patch_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (B,) and transport plans (B, L, P) of tokens (B, L, D) and patches (B, P, D).

        The masks, bool (B, L) and (B, P), are False on [CLS], [SEP] and padding.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            tokens, patches = tokens.float(), patches.float()
            if self.mean_center:
                tokens, patches = mean_center(tokens, token_mask), mean_center(patches, patch_mask)
            cost = transport_cost(tokens, patches)
            plan = ipot(cost, token_mask, patch_mask, beta=self.beta, iterations=self.iterations)
            return transport_distance(cost, plan), plan

    def loss(
        self, tokens: Tensor, token_mask: Tensor, patches: Tensor, patch_mask: Tensor, matched: Tensor
    ) -> dict[str, Tensor]:
        """As `forward`, with matched bool (B,)."""
        distance, _ = self(tokens, token_mask, patches, patch_mask)
        matched_sum, mismatched_sum = (distance * matched).sum(), (distance * ~matched).sum()
        num_matched = matched.sum()
        if self.mismatched == 'push':
            loss = (matched_sum - mismatched_sum) / len(matched)
        else:
            loss = matched_sum / num_matched.clamp(min=1)
        return {
            'wpa_loss': self.loss_weight * loss,
            'wpa_matched_distance': matched_sum.detach() / num_matched.clamp(min=1),
            'wpa_mismatched_distance': mismatched_sum.detach() / (len(matched) - num_matched).clamp(min=1),
        }


def mean_center(states: Tensor, mask: Tensor) -> Tensor:
    """Subtract from states (B, N, D) the mean over those of their pair that take part; mask bool (B, N)."""
    mask = mask[:, :, None]
    return states - (states * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
