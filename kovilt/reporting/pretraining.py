"""The part of a report that is about pre-training: masked words that the model fills in, and where words point."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from kovilt.batch import Batch
from kovilt.datasets import ImageGroupSampler, PairDataset, collate_pairs
from kovilt.datasets.transforms.patches import join_patches
from kovilt.errors import KoviltError
from kovilt.registry import DATASETS
from kovilt.reporting.images import THUMBNAIL
from kovilt.reporting.run import Run
from kovilt.visualization.heatmap import above_uniform, heat_colour, overlay
from kovilt.visualization.report import Block, Card, Cards, Figure, FigureRow, Paragraph, Scale, Section, image_url

MASKED_CAPTIONS, ALIGNED_CAPTIONS, MAX_WORDS = 8, 4, 10


def pretraining_sections(run: Run) -> list[Section]:
    """Masked words and alignment of some captions of the validation data, by the checkpoint of the run."""
    model = run.trained.model
    dataset, batch = _open_batch(run)
    sections = []
    if model.mlm_head is not None:
        sections.append(Section('Masked words · 가린 단어', _masked_blocks(model, dataset, batch)))
    if model.wpa_head is not None:
        blocks = _alignment_blocks(model, batch, dataset.reader.TEXT)
        sections.append(Section('Where words point · 단어-패치 정렬', blocks))
    return sections


def _open_batch(run: Run) -> tuple[PairDataset, Batch]:
    """The validation data, and some of its captions, of different images."""
    loaders = [run.config[name] for name in ('test_dataloader', 'val_dataloader') if run.config.get(name)]
    if not loaders:
        raise KoviltError(f'{run.config_file}: it has no validation data')
    dataset: PairDataset = DATASETS.build({**loaders[0]['dataset'], 'keep_record': True})
    rows = ImageGroupSampler(dataset, shuffle=True, seed=0, texts_per_image=1).order()[:MASKED_CAPTIONS]
    (batch,) = collate_pairs(dataset.__getitems__(rows.tolist()))
    return dataset, batch


def _masked_blocks(model: Any, dataset: PairDataset, batch: Batch) -> list[Block]:
    tokenizer = dataset.tokenizer
    assert tokenizer is not None  # the batch holds tokens
    masked_ids, places, best, scores = model.fill_masks(batch)
    images = _images(batch)
    cards = []
    for number, record in enumerate(batch['records']):
        words, own = batch['word_ids'][number].tolist(), (places[:, 0] == number).nonzero().squeeze(1).tolist()
        tokens = tokenizer.convert_ids_to_tokens(masked_ids[number].tolist())
        predicted = set(places[own, 1].tolist())
        shown = [
            f'[{token.removeprefix("##").strip("[]")}]' if at in predicted else token for at, token in enumerate(tokens)
        ]
        lines = [('캡션', record[dataset.reader.TEXT]), ('가림', join_tokens(shown, words))]
        for row in own:
            true_id = int(batch['input_ids'][number, places[row, 1]])
            guesses = zip(tokenizer.convert_ids_to_tokens(best[row].tolist()), scores[row].tolist(), strict=True)
            mark = 'O' if int(best[row, 0]) == true_id else 'X'
            text = ', '.join(f'{token} {score:.0%}' for token, score in guesses)
            lines.append((f'{tokenizer.convert_ids_to_tokens(true_id)}', f'{mark}  {text}'))
        cards.append(Card(lines, image_url(images[int(batch['image_index'][number])], THUMBNAIL)))
    text = (
        'Captions of the validation data. What the model has to predict stands in brackets, and below it the correct '
        'token with the first three guesses.'
    )
    return [Paragraph(text), Cards(cards)]


def join_tokens(tokens: list[str], word_ids: list[int]) -> str:
    """The tokens of the words of a text as text, without [CLS], [SEP] and padding."""
    text = ''
    for at, token in enumerate(tokens):
        if word_ids[at] >= 0:
            text += (' ' if at and word_ids[at] != word_ids[at - 1] else '') + token.removeprefix('##')
    return text.strip()


def _alignment_blocks(model: Any, batch: Batch, text: str) -> list[Block]:
    """text: the key of the records with the caption."""
    plans = model.align(batch)[0].float().cpu().numpy()  # (B, L, P)
    images = _images(batch)
    blocks: list[Block] = [
        Paragraph(
            'The transport plan of word-patch alignment: coloured patches get more than a uniform share of the mass of '
            'the word. All words of a caption share one scale.'
        )
    ]
    for number, record in list(enumerate(batch['records']))[:ALIGNED_CAPTIONS]:
        image = int(batch['image_index'][number])
        rows, columns = batch['grids'][image].tolist()
        word_ids = batch['word_ids'][number].numpy()
        words = record[text].split()[: min(MAX_WORDS, word_ids.max() + 1)]
        if not rows * columns or not words:  # the image cannot be read, or the caption has no token
            continue
        plan = plans[number, :, : rows * columns]
        mass = np.stack([plan[word_ids == word].sum(0).reshape(rows, columns) for word in range(len(words))])
        share = above_uniform(mass)
        shown = images[image]
        shown.thumbnail((THUMBNAIL, THUMBNAIL))
        maps = [
            Figure(image_url(overlay(shown, one), THUMBNAIL), word, f'where {word} points')
            for word, one in zip(words, share, strict=True)
        ]
        blocks.append(FigureRow(maps, record[text]))
        most = mass / np.maximum(mass.mean((1, 2), keepdims=True), 1e-12)
        colours = [f'rgb({red}, {green}, {blue})' for red, green, blue in heat_colour(np.linspace(0, 1, 5)).tolist()]
        largest = max(2.0, float(most.max()))
        blocks.append(Scale(colours, 'uniform share or less', f'{largest:.1f} times the uniform share'))
    return blocks


def _images(batch: Batch) -> list[Image.Image]:
    """The images of the batch as the model sees them, joined from their patches."""
    counts = batch['grids'].prod(1).tolist()
    return [
        Image.fromarray(join_patches(patches.numpy(), tuple(grid))) if len(patches) else Image.new('RGB', (16, 16))
        for patches, grid in zip(torch.split(batch['patches'], counts), batch['grids'].tolist(), strict=True)
    ]
