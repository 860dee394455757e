"""A question-answering model as a graph for other runtimes, and a wrapper that lets `VQAInferencer` use such a graph.

In training, tokens and patches are packed without padding, in shapes that depend on the data. An exported graph needs
fixed rules for its shapes, so here the same parameters compute one padded batch. An image is given by its patches and
the index of its grid: ViLT's resizing produces a few dozen grids, and one graph holds the position embeddings of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.answering import AnsweringModel, rank_answers, rank_options
from kovilt.modules import PrefixViLT
from kovilt.modules.packing import segment_starts
from kovilt.modules.transformer import Block

Grid = tuple[int, int]  # rows and columns of patches
Inputs = dict[str, Tensor]


class PaddedVQA(nn.Module):
    """An `AnsweringModel` from uint8 patches to scores, on padded batches, with the model's own parameters.

    Shapes: B pairs, L tokens, P patches, p patch size, G grids, N = L + 1 + P, D hidden size, h heads, C answers, 1 for
    a `ViLTForMultipleChoice`.

    Args:
        model: in evaluation mode, in float32, on the CPU.
        grids: of every image that may come.
    """

    counts: Tensor  # int64 (G,): patches of each grid
    starts: Tensor  # int64 (G,): first row of each grid in `positions`
    positions: Tensor  # float32 (sum of counts, D): position embeddings of all grids, one after the other

    def __init__(self, model: AnsweringModel, grids: Sequence[Grid]) -> None:
        super().__init__()
        self.encoder: Any = model.encoder
        self.head: Any = model.head
        counts = torch.tensor(grids).prod(dim=1)
        self.register_buffer('counts', counts)
        self.register_buffer('starts', segment_starts(counts))
        self.register_buffer('positions', torch.cat([self.encoder.image.positions(*grid).detach() for grid in grids]))
        self.eval()

    def forward(self, input_ids: Tensor, text_mask: Tensor, patches: Tensor, grid_index: Tensor) -> Tensor:
        """Scores (B, C) before the softmax.

        input_ids int64 and text_mask bool (B, L); patches uint8 (B, P, 3*p*p), padded with any values; grid_index int64
        (B,), which of `grids` each image has.
        """
        encoder = self.encoder
        batch, num_patches, _ = patches.shape  # not len(patches), which would fix the batch size in the graph
        num_tokens = input_ids.shape[1]
        place = torch.arange(num_patches)
        text = encoder.text(input_ids, torch.arange(num_tokens)) + encoder.modality_embed.weight[0]
        rows = (self.starts[grid_index, None] + place).clamp(max=self.positions.shape[0] - 1)  # (B, P)
        image = encoder.image.proj(patches.float() / 127.5 - 1) + F.embedding(rows, self.positions)  # (B, P, D)
        cls = (encoder.image.cls_token + encoder.image.pos_embed[:1]).expand(batch, 1, -1)
        image = torch.cat([cls, image], dim=1) + encoder.modality_embed.weight[1]
        x = torch.cat([text, image], dim=1)  # (B, N, D)
        # text_mask[:, :1] stands for the image CLS: it is there in every pair, as the text's [CLS] is.
        mask = torch.cat([text_mask, text_mask[:, :1], place < self.counts[grid_index, None]], dim=1)  # (B, N)
        mask = mask[:, None]  # (B, 1, N): the same keys for every query
        if isinstance(encoder, PrefixViLT):
            place = torch.arange(mask.shape[2])
            mask = mask & ((place[:, None] < num_tokens) | (place >= num_tokens))  # (B, N, N): no patch sees a token
        for block in encoder.blocks[:-1]:
            x = _run_block(block, x, mask)
        x = _run_block(encoder.blocks[-1], x, mask, num_queries=1)  # only the text's [CLS] is pooled
        return self.head(torch.tanh(encoder.pooler(encoder.norm(x[:, 0]))))


def _run_block(block: Block, x: Tensor, mask: Tensor, num_queries: int | None = None) -> Tensor:
    """Compute a `Block` for x (B, N, D) and mask (B, 1 or N, N); returns the first `num_queries` positions, or all."""
    attn = block.attn
    q, k, v = attn.qkv(block.norm1(x)).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, h, N, D/h)
    y = F.scaled_dot_product_attention(q[:, :, :num_queries], k, v, attn_mask=mask[:, None, :num_queries])
    x = x[:, :num_queries] + attn.proj(y.transpose(1, 2).flatten(2))
    return x + block.mlp(block.norm2(x))


class GraphVQA:
    """A graph in place of a `ViLTForVQA`: takes batches of `PairCollate` and answers them.

    Args:
        run: computes scores from the inputs of `PaddedVQA.forward`, by name.
        grids: those that the graph was made for, in its order.

    Attributes:
        temperature: of the answering model.
    """

    temperature = 1.0

    def __init__(self, run: Callable[[Inputs], Tensor], grids: Sequence[Sequence[int]], answers: Sequence[str]) -> None:
        self._run = run
        self._grid_numbers = {tuple(grid): number for number, grid in enumerate(grids)}
        self.answers, self.topk = list(answers), 5

    def to(self, device: str | torch.device) -> GraphVQA:
        """Return self; like torch, raise a RuntimeError for a device that cannot be used, here all but the CPU."""
        if torch.device(device).type != 'cpu':
            raise RuntimeError('an exported graph computes on the CPU; leave the device out')
        return self

    def __call__(self, batch: Batch, mode: Literal['predict'] = 'predict') -> list[dict[str, Any]]:
        """One prediction per pair of the batch, as `ViLTForVQA` gives them; raises KoviltError as `answer`."""
        return self.answer(batch, self.topk)

    def answer(self, batch: Batch, topk: int, choices: Sequence[Sequence[str]] = ()) -> list[dict[str, Any]]:
        """As `ViLTForVQA.answer`.

        Raises:
            KoviltError: as `pad`, or the graph gives something else than a finite score for each pair and answer.
        """
        scores = self._checked_scores(batch, len(self.answers)) / self.temperature
        return rank_answers(scores, self.answers, topk, choices)

    def _checked_scores(self, batch: Batch, columns: int) -> Tensor:
        scores, expected = self.scores(batch), (len(batch['input_ids']), columns)
        if tuple(scores.shape) != expected or not scores.is_floating_point() or not torch.isfinite(scores).all():
            raise KoviltError(
                f'the graph gives {tuple(scores.shape)} {str(scores.dtype)[6:]} values instead of {expected} finite '
                'scores; export the model anew'
            )
        return scores

    def scores(self, batch: Batch) -> Tensor:
        """Scores (B, C) before the softmax, for a batch of at least one pair."""
        return self._run(self.pad(batch))

    def pad(self, batch: Batch) -> Inputs:
        """The inputs of `PaddedVQA.forward` for a packed batch: patches are copied per pair and padded to the most.

        Raises:
            KoviltError: an image has a grid that the graph was not made for.
        """
        grids, image_index = batch['grids'], batch['image_index']
        counts = grids.prod(dim=1)
        place = torch.arange(int(counts.max()))
        rows = (segment_starts(counts)[:, None] + place).masked_fill(place >= counts[:, None], 0)  # (I, P)
        return dict(
            input_ids=batch['input_ids'],
            text_mask=batch['text_mask'],
            patches=batch['patches'][rows][image_index],
            grid_index=torch.tensor([self._grid_number(*grid) for grid in grids.tolist()])[image_index],
        )

    def _grid_number(self, rows: int, columns: int) -> int:
        if (rows, columns) not in self._grid_numbers:
            raise KoviltError(
                f'an image of {rows} x {columns} patches: the graph was made for {len(self._grid_numbers)} other '
                'grids; prepare images by the steps of its kovilt.json'
            )
        return self._grid_numbers[rows, columns]


class GraphChoice(GraphVQA):
    """A graph in place of a `ViLTForMultipleChoice`: takes batches of `PairCollate` and chooses among their options."""

    def answer(self, batch: Batch, topk: int, choices: Sequence[Sequence[str]] = ()) -> list[dict[str, Any]]:
        """As `ViLTForMultipleChoice.answer`; raises KoviltError as `GraphVQA.answer`."""
        return rank_options(self._checked_scores(batch, 1).squeeze(1) / self.temperature, choices, topk)
