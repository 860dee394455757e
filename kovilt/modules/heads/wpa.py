"""Word-patch alignment: the cost of carrying a caption's words to the image's patches (section 3, L3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kovilt.modules.transport import ipot, transport_cost, transport_distance


class WPAHead(nn.Module):
    """Optimal-transport distance between the word and patch states of each pair, in float32 whatever the autocast.

    Args:
        loss_weight: weight of L3; 0.5 in the paper, 0.1 in ViLT.
        mismatched: 'ignore' minimises the mean distance of matched pairs (the paper); 'push' minimises the sum over
            matched pairs minus the sum over mismatched pairs, divided by their number together (ViLT, UNITER).
        beta: strength of IPOT's proximal term.
        iterations: IPOT's steps. The distance comes within 1 percent of the exact one at the default of 0.05 and 30, of
            states that share a direction, as deep layers' do; at the paper's 0.5 and 50 it is 4 percent off.
        mean_center: compare states less their mean over the words, or patches, of their pair: what a whole pair has in
            common, such as whether it matches, then brings no word nearer to any patch.
        block: the block of the encoder, counted from 1, whose states are aligned; None = the last, after the final norm
            (the paper). Of a shallow encoder the last states know whether the pair matches, so that pushing mismatched
            pairs apart turns into matching once more: there, an earlier block aligns words with patches.
    """

    def __init__(
        self,
        *,
        loss_weight: float = 0.5,
        mismatched: Literal['ignore', 'push'] = 'ignore',
        beta: float = 0.05,
        iterations: int = 30,
        mean_center: bool = False,
        block: int | None = None,
    ) -> None:
        super().__init__()
        if mismatched not in ('ignore', 'push'):
            raise ValueError(f"mismatched {mismatched!r} is neither 'ignore' nor 'push'")
        self.loss_weight, self.mismatched, self.beta, self.iterations = loss_weight, mismatched, beta, iterations
        self.mean_center, self.block = mean_center, block

    def forward(self, words: Tensor, word_mask: Tensor, patches: Tensor, patch_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (B,) and transport plans (B, L, P) of words (B, L, D) and patches (B, P, D).

        The masks, bool (B, L) and (B, P), leave out [CLS], [SEP], padding and the image CLS.
        """
        with torch.autocast(words.device.type, enabled=False):
            words, patches = words.float(), patches.float()
            if self.mean_center:
                words, patches = mean_center(words, word_mask), mean_center(patches, patch_mask)
            cost = transport_cost(words, patches)
            plan = ipot(cost, word_mask, patch_mask, beta=self.beta, iterations=self.iterations)
            return transport_distance(cost, plan), plan

    def loss(
        self, words: Tensor, word_mask: Tensor, patches: Tensor, patch_mask: Tensor, matched: Tensor
    ) -> dict[str, Tensor]:
        """As `forward`, with matched bool (B,)."""
        distance, _ = self(words, word_mask, patches, patch_mask)
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
    """States (B, N, D) less the mean of those of their pair that the mask (B, N) keeps."""
    mask = mask[:, :, None]
    return states - (states * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
