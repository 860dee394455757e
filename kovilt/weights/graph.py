"""A question-answering model as a graph for other runtimes, and what `VQAInferencer` needs on top of such a graph.

Training packs words and patches without padding, in shapes that depend on the data. A graph wants rules for its
shapes, so here the same parameters compute one padded rectangle. An image comes as its patches and the number of its
grid: ViLT's resizing can give a few dozen grids, and one graph holds the positions of them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.vqa import ViLTForVQA, rank_answers
from kovilt.modules import PrefixViLT
from kovilt.modules.packing import segment_starts
from kovilt.modules.transformer import Block

Grid = tuple[int, int]
Inputs = dict[str, Tensor]


class RectangularVQA(nn.Module):
    """`ViLTForVQA` from bytes to scores, for a padded rectangle of pairs, on the model's own parameters.

    Shapes: B pairs, L tokens, P patches, p patch size, G grids, N = L + 1 + P, D hidden size, h heads, C answers.

    Args:
        model: in evaluation mode, in float32, on the CPU.
        grids: rows and columns, in patches, of every image that may come.
    """

    def __init__(self, model: ViLTForVQA, grids: Sequence[Grid]) -> None:
        super().__init__()
        self.encoder, self.vqa_head = model.encoder, model.vqa_head
        counts = torch.tensor(grids).prod(dim=1)
        self.register_buffer('counts', counts)  # (G,)
        self.register_buffer('starts', segment_starts(counts))  # (G,) in positions
        self.register_buffer('positions', torch.cat([self.encoder.image.positions(*grid).detach() for grid in grids]))
        self.eval()

    def forward(self, input_ids: Tensor, text_mask: Tensor, patches: Tensor, grid_index: Tensor) -> Tensor:
        """Scores (B, C) before the softmax.

        input_ids int64 and text_mask bool (B, L); patches uint8 (B, P, 3*p*p), of any value beyond an image's own;
        grid_index int64 (B,), which of `grids` each image has.
        """
        encoder = self.encoder
        batch, count, _ = patches.shape  # never len(): it would fix the batch size in the graph
        place = torch.arange(count)
        words = encoder.text(input_ids, torch.arange(input_ids.shape[1])) + encoder.modality_embed.weight[0]
        rows = (self.starts[grid_index, None] + place).clamp(max=self.positions.shape[0] - 1)  # (B, P)
        seen = encoder.image.proj(patches.float() / 127.5 - 1) + F.embedding(rows, self.positions)  # (B, P, D)
        cls = (encoder.image.cls_token + encoder.image.pos_embed[:1]).expand(batch, 1, -1)
        x = torch.cat([words, torch.cat([cls, seen], dim=1) + encoder.modality_embed.weight[1]], dim=1)  # (B, N, D)
        # As sure as the text's [CLS], the image CLS is there.
        mask = torch.cat([text_mask, text_mask[:, :1], place < self.counts[grid_index, None]], dim=1)  # (B, N)
        mask = mask[:, None]  # (B, 1, N): whoever asks
        if isinstance(encoder, PrefixViLT):
            place, words = torch.arange(mask.shape[2]), input_ids.shape[1]
            mask = mask & ((place[:, None] < words) | (place >= words))  # (B, N, N): patches do not ask words
        for block in encoder.blocks[:-1]:
            x = _run_block(block, x, mask)
        x = _run_block(encoder.blocks[-1], x, mask, asked=1)  # nobody reads more than the text's [CLS]
        return self.vqa_head(torch.tanh(encoder.pooler(encoder.norm(x[:, 0]))))


def _run_block(block: Block, x: Tensor, mask: Tensor, asked: int | None = None) -> Tensor:
    """What `Block` does, for x (B, N, D), mask (B, 1 or N, N); returns the first `asked` rows of each pair, or all."""
    attn = block.attn
    q, k, v = attn.qkv(block.norm1(x)).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, h, N, D/h)
    y = F.scaled_dot_product_attention(q[:, :, :asked], k, v, attn_mask=mask[:, None, :asked])
    x = x[:, :asked] + attn.proj(y.transpose(1, 2).flatten(2))
    return x + block.mlp(block.norm2(x))


class GraphVQA:
    """A graph in a model's place: takes the batches of `PairCollate` and answers them.

    Args:
        run: from the inputs of `RectangularVQA.forward`, by name, to its scores.
        grids: as the graph was made for.
        answers: in label order.

    Attributes:
        topk: how many answers a prediction lists, best first.
    """

    def __init__(self, run: Callable[[Inputs], Tensor], grids: Sequence[Grid], answers: Sequence[str]) -> None:
        self._run, self._numbers = run, {tuple(grid): number for number, grid in enumerate(grids)}
        self.answers, self.topk = list(answers), 5

    def to(self, device: str | torch.device) -> GraphVQA:
        """Itself; RuntimeError, as torch raises it, for anything but the CPU."""
        if torch.device(device).type != 'cpu':
            raise RuntimeError('an exported graph computes on the CPU; leave the device out')
        return self

    def __call__(self, batch: Batch, mode: Literal['predict'] = 'predict') -> list[dict]:
        """Predictions for the rows of a batch, as `ViLTForVQA` gives them."""
        return rank_answers(self.scores(batch), self.answers, self.topk)

    def scores(self, batch: Batch) -> Tensor:
        """Scores (B, C) of a batch of at least one pair."""
        return self._run(self.spread(batch))

    def spread(self, batch: Batch) -> Inputs:
        """The rectangle of a packed batch: every pair gets its image, every image the room of the largest.

        Raises:
            KoviltError: an image has a grid that the graph was not made for.
        """
        grids, which = batch['grids'], batch['image_index']
        counts = grids.prod(dim=1)
        place = torch.arange(int(counts.max()))
        rows = (segment_starts(counts)[:, None] + place).masked_fill(place >= counts[:, None], 0)  # (I, P)
        return dict(
            input_ids=batch['input_ids'],
            text_mask=batch['text_mask'],
            patches=batch['patches'][rows][which],
            grid_index=torch.tensor([self._number(*grid) for grid in grids.tolist()])[which],
        )

    def _number(self, rows: int, columns: int) -> int:
        if (rows, columns) not in self._numbers:
            raise KoviltError(
                f'an image of {rows} x {columns} patches: the graph was made for {len(self._numbers)} other grids; '
                'prepare images by the steps of its kovilt.json'
            )
        return self._numbers[rows, columns]
