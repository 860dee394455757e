"""Draws the figures of docs/en/how_it_works.md: scenes of Rooms as the packed batch, and what the encoder makes of it.

The encoder is `rooms_encoder`, which kovilt carries. The figures need a font with Hangul: apt install fonts-nanum.

python -m benchmarks.model_figures docs/images
"""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.model_figures_data import Example, load_example, read_pairs
from kovilt.cli.arguments import CommandParser
from kovilt.errors import KoviltError, run_cli
from kovilt.files import atomic_path
from kovilt.terminal import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = ('how_packing.png', 'how_masking.png', 'how_matching.png', 'how_transport.png')
# The number of a validation image of Rooms (seed 0), and of one of its captions.
PACKED = ((0, 0), (1, 0), (1, 1), (8, 1))
MASKED, ALIGNED = (48, 3), (41, 3)
MATCHED = ((41, 3), (8, 1), (10, 1), (6, 4))
MASKING_SEED, MATCHING_SEED = 1, 7  # of the random numbers of the samples
TEXT, CLS, PATCH, PADDING, MASK = '#4e79a7', '#e15759', '#a0cbe8', '#e3e3e3', '#f1ce63'


def draw_packing(example: Example) -> Figure:
    """The padded batch, and below it the packed sequence that the encoder computes, on one scale of tokens."""
    import torch

    from kovilt.modules.packing import Packing

    _, _, batch = read_pairs(example, PACKED)
    lengths, grids = batch['text_mask'].sum(dim=1), batch['grids'].prod(dim=1)
    packing = Packing(lengths, grids, batch['image_index'], torch.device('cpu'))
    ends = packing.cu_seqlens('all')[0].tolist()
    longest, most = int(lengths.max()), int(grids.max())
    figure = new_figure(11, 2.5)
    axes = figure.add_subplot()
    padded = len(PACKED) * (longest + 1 + most)
    for place in range(len(PACKED)):
        text, patches = int(lengths[place]), int(packing.patch_counts[place])
        x = draw_cells(axes, place * (longest + 1 + most), 1, (text, TEXT), (longest - text, PADDING))
        draw_cells(axes, x, 1, (1, CLS), (patches, PATCH), (most - patches, PADDING))
    for start, pair in zip(ends, packing.order.tolist(), strict=False):
        counts = int(lengths[pair]), int(packing.patch_counts[pair])
        draw_cells(axes, start, 0, (counts[0], TEXT), (1, CLS), (counts[1], PATCH))
        axes.text(start + 1, 0.36, f'pair {pair}, image {int(batch["image_index"][pair])}', va='bottom', fontsize=8)
    for end in ends:
        axes.plot([end, end], [-0.45, 0.45], color='black', linewidth=1)
        axes.text(end, -0.5, str(end), ha='center', va='top', fontsize=8)
    axes.text(ends[-1] + 8, -0.5, 'cu_seqlens', va='top', fontsize=8)
    axes.text(0, 1.36, f'padded: {padded} tokens, {100 * (padded - ends[-1]) / padded:.0f} % padding', va='bottom')
    axes.text(ends[-1] + 8, 0, f'packed: {ends[-1]} tokens', va='center')
    for colour, name in ((TEXT, 'text token'), (CLS, 'image CLS'), (PATCH, 'patch'), (PADDING, 'padding')):
        axes.scatter([], [], marker='s', color=colour, label=name)
    axes.legend(loc='upper right', ncols=4, frameon=False, fontsize=8, bbox_to_anchor=(1, 1.12))
    axes.set(xlim=(-1, padded + 1), ylim=(-0.9, 1.9))
    axes.axis('off')
    return figure


def draw_cells(axes: Axes, x: int, y: float, *runs: tuple[int, str]) -> int:
    """Draw one cell for each token of the runs (count, colour) from `x` on; returns where they end."""
    for count, colour in runs:
        axes.broken_barh([(x + n + 0.1, 0.8) for n in range(count)], (y - 0.3, 0.6), color=colour, linewidth=0)
        x += count
    return x


def draw_masking(example: Example) -> Figure:
    """A caption, what the encoder reads of it after masking, and the three tokens that the MLM head puts there."""
    from rich.cells import cell_len  # Hangul is two cells wide

    images, _, batch = read_pairs(example, [MASKED], MASKING_SEED)
    masked, places, best, scores = example.model.fill_masks(batch)
    tokens, shown = example.token_texts(batch['input_ids'][0].tolist()), example.token_texts(masked[0].tolist())
    words, at = batch['word_ids'][0].tolist(), [position for _, position in places.tolist()]
    guesses = {
        place: [f'{token} {100 * value:.0f}' for token, value in zip(example.token_texts(ids), values, strict=True)]
        for place, ids, values in zip(at, best.tolist(), scores.tolist(), strict=True)
    }
    widths = [
        1.5 + max(map(cell_len, (token, other, *guesses.get(place, ()))))
        for place, (token, other) in enumerate(zip(tokens, shown, strict=True))
    ]
    ends = list(itertools.accumulate(widths))
    figure = new_figure(12, 3)
    left, axes = figure.subplots(1, 2, width_ratios=(1, 4))
    left.imshow(images[0])
    left.axis('off')
    for place, (end, width) in enumerate(zip(ends, widths, strict=True)):
        x = end - width / 2
        label(axes, x, 3, tokens[place], example, TEXT if place in at else None)
        label(axes, x, 2, shown[place], example, MASK if place in at else None)
        for rank, guess in enumerate(guesses.get(place, ())):
            colour = '#1b7f3b' if guess.split()[0] == tokens[place] else '#777777'
            axes.text(x, 1.2 - 0.4 * rank, guess, ha='center', va='center', color=colour, font=sized(example, 8.5))
        if place in at:
            axes.annotate('', (x, 2.25), (x, 2.75), arrowprops={'arrowstyle': '->', 'color': '#666666'})
    for word in range(max(words) + 1):
        inside = [place for place, number in enumerate(words) if number == word]
        start = ends[inside[0]] - widths[inside[0]]
        axes.plot([start + 0.5, ends[inside[-1]] - 0.5], [3.4, 3.4], color='#333333', linewidth=1.5)
    for y, name in ((3.4, 'eojeols'), (3, 'tokens'), (2, 'input'), (0.8, 'MLM head, %')):
        axes.text(-1, y, name, ha='right', va='center', fontsize=9)
    axes.set(xlim=(-13, ends[-1]), ylim=(0.1, 3.6))
    axes.axis('off')
    return figure


def draw_matching(example: Example) -> Figure:
    """Captions with the image that each gets in the matching pass, and what the ITM head says of the pair."""
    import torch

    images, captions, batch = read_pairs(example, MATCHED, MATCHING_SEED)
    model = example.model
    itm_head = model.itm_head
    assert itm_head is not None  # rooms_encoder has one
    index, matched = itm_head.sample_negatives(batch['image_index'], batch['image_id'], batch['sample_seed'])
    with torch.inference_mode():
        ready = model.data_preprocessor(batch)
        states = model.encode(
            {**ready, 'image_index': index}, model.encoder.embed_images(ready['patches'], ready['grids']), 'cls'
        )
        matches = itm_head(model.encoder.pool(states)).softmax(dim=1)[:, 1].tolist()
    figure = new_figure(9.5, 1.35 * len(captions))
    grid = figure.subplots(len(captions), 3, width_ratios=(1, 3.4, 1))
    for row, (caption, given) in enumerate(zip(captions, index.tolist(), strict=True)):
        own, text, other = grid[row]
        own.imshow(images[row])
        other.imshow(images[given])
        own.set_ylabel(f'pair {row}', rotation=0, ha='right', va='center')
        for axes in (own, other):
            axes.set(xticks=[], yticks=[])
        text.axis('off')
        kept = bool(matched[row])
        text.text(0.5, 0.68, wrapped(caption, 34), ha='center', va='center', fontproperties=sized(example, 10))
        verdict = f'label: {"matches" if kept else "does not match"}; ITM head: matches with {100 * matches[row]:.0f} %'
        text.text(0.5, 0.2, verdict, ha='center', va='center', fontsize=9, color='#1b7f3b' if kept else '#b3261e')
        if row == 0:
            own.set_title('true image', fontsize=9)
            text.set_title('caption', fontsize=9)
            other.set_title('image of the pass', fontsize=9)
    return figure


def draw_transport(example: Example) -> Figure:
    """The cost of each token and patch, the plan that IPOT finds, and the plan of words for objects on the image."""
    import torch

    from kovilt.models.pretraining import alignment_inputs
    from kovilt.modules.heads.wpa import mean_center
    from kovilt.modules.transport import ipot, transport_cost, transport_distance
    from kovilt.rooms import KINDS
    from kovilt.visualization.heatmap import above_uniform, overlay

    images, captions, batch = read_pairs(example, [ALIGNED])
    model, head = example.model, example.model.wpa_head
    assert head is not None
    with torch.inference_mode():
        ready = model.data_preprocessor(batch)
        encoded = model.encoder.embed_images(ready['patches'], ready['grids'])
        tokens, token_mask, patches, patch_mask = alignment_inputs(
            ready, model.encode(ready, encoded, 'cls', inner_block=head.block)
        )
        cost = transport_cost(mean_center(tokens, token_mask), mean_center(patches, patch_mask))
        plan = ipot(cost, token_mask, patch_mask, beta=head.beta, iterations=head.iterations)
        distance = float(transport_distance(cost, plan)[0])
    kept = token_mask[0]
    names = example.token_texts(batch['input_ids'][0][kept].tolist())
    rows, columns = batch['grids'][0].tolist()
    shares = (plan[0] * int(kept.sum()))[kept]  # of the mass of each token
    word_of = batch['word_ids'][0][kept]
    by_word = torch.stack([plan[0][kept][word_of == n].sum(dim=0) for n in range(int(word_of.max()) + 1)])
    excess = above_uniform(by_word.view(-1, rows, columns).numpy())
    words = captions[0].split()
    named = [number for number, word in enumerate(words[: len(by_word)]) if word.startswith(tuple(KINDS))][:4]
    figure = new_figure(11, 5.2)
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    for axes, values, title, colours in zip(
        above.subplots(1, 2),
        (cost[0][kept], shares),
        ('cost: 1 - cosine', f'plan: share of each token (distance {distance:.2f})'),
        ('viridis', 'magma_r'),
        strict=True,
    ):
        shown = axes.imshow(values.numpy(), aspect='auto', cmap=colours)
        axes.set_yticks(range(len(names)), names, fontproperties=sized(example, 8))
        axes.set_xticks(range(0, rows * columns, columns), [f'row {row}' for row in range(rows)], fontsize=7)
        axes.set_title(title, fontsize=10)
        above.colorbar(shown, ax=axes)
    panels = below.subplots(1, 1 + len(named))
    panels[0].imshow(images[0])
    for line in range(1, rows):
        panels[0].axhline(line * images[0].height / rows, color='white', linewidth=0.6)
    for line in range(1, columns):
        panels[0].axvline(line * images[0].width / columns, color='white', linewidth=0.6)
    panels[0].set_title(f'{rows} x {columns} patches', fontsize=9)
    for axes, number in zip(panels[1:], named, strict=True):
        axes.imshow(overlay(images[0].convert('RGB'), excess[number]))
        axes.set_title(words[number], fontproperties=sized(example, 10))
    for axes in panels:
        axes.axis('off')
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Inches. Not pyplot: no display, no state shared with others."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout='constrained')


def label(axes: Axes, x: float, y: float, text: str, example: Example, colour: str | None) -> None:
    """A token in a box; `colour` marks one that takes part in the masking."""
    box = {'boxstyle': 'round,pad=0.25', 'facecolor': colour or 'white', 'edgecolor': '#aaaaaa', 'alpha': 0.75}
    axes.text(x, y, text, ha='center', va='center', fontproperties=sized(example, 8.5), bbox=box)


def sized(example: Example, size: float) -> Any:
    """The Korean font in another size."""
    font = example.font.copy()
    font.set_size(size)
    return font


def wrapped(text: str, width: int) -> str:
    import textwrap

    return '\n'.join(textwrap.wrap(text, width))


def draw_figures(out: Path) -> list[Path]:
    """Draw the FIGURES into a folder; returns their paths."""
    from PIL import Image

    example = load_example()
    files = []
    for name, draw in zip(FIGURES, (draw_packing, draw_masking, draw_matching, draw_transport), strict=True):
        buffer = io.BytesIO()
        draw(example).savefig(buffer, format='png')
        with atomic_path(out / name) as draft:  # 256 colours are enough, and a third of the bytes
            Image.open(buffer).convert('RGB').quantize(256).save(draft, 'PNG', optimize=True)
        files.append(out / name)
    return files


def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument('out', metavar='FOLDER', help='gets the figures')
    out = Path(os.path.expanduser(parser.parse_args().out))
    if not out.is_dir():
        raise KoviltError(f'{out}: no such folder; make it first')
    for file in draw_figures(out):
        show(f'wrote {file} ({file.stat().st_size / 1024:,.0f} KB)')


if __name__ == '__main__':
    raise SystemExit(run_cli(main))
