"""The report of two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError
from kovilt.evaluation.breakdown import Prediction, different_images
from kovilt.evaluation.comparison import compare_predictions, read_predictions
from kovilt.reporting.calibration import calibration_blocks
from kovilt.reporting.facts import describe_run, number_text, panel_figures
from kovilt.reporting.predictions import prediction_card
from kovilt.reporting.run import Run
from kovilt.visualization import run_panels, write_report
from kovilt.visualization.report import Bar, Block, Card, Cards, Paragraph, Section, Table

MAX_EXAMPLES, MAX_KEYS = 16, 300
_NUMBERS = ('accuracy', 'tolerant_accuracy', 'majority_accuracy', 'ceiling', 'mlm_accuracy', 'itm_accuracy')


def write_comparison(a: str | Path, b: str | Path, out: str | Path | None = None) -> Path:
    """Write a page that compares the runs of two work folders, and return its path.

    Args:
        out: the page; None = `report_A_B.html` beside the folder B.

    Raises:
        KoviltError: a folder holds no run, or its files are damaged.
    """
    one, other = Run(a), Run(b)
    names = _names(one, other)
    page = Path(out or other.folder.resolve().parent / f'report_{one.name}_{other.name}.html')
    sections = [
        Section('Result · 결과', _result_blocks(one, other, names)),
        Section('Curves · 학습 곡선', _curve_blocks(one, other, names)),
        *_calibration_sections(one, other, names),
        *_question_sections(one, other, names),
        Section('Config · 설정', _config_blocks(one, other, names)),
        Section('Run · 실행', [_facts_table(one, other, names)]),
    ]
    return write_report(
        page,
        title=f'{names[0]} and {names[1]}',
        lead=f'A: {one.folder}, B: {other.folder}',
        sections=[section for section in sections if section.blocks],
        footer=f'kovilt report {a} {b}',
    )


def _names(one: Run, other: Run) -> tuple[str, str]:
    """What the page calls them: the names of their folders, with those above where they are equal."""
    if one.name != other.name:
        return one.name, other.name
    return f'A {one.folder.resolve().parent.name}/{one.name}', f'B {other.folder.resolve().parent.name}/{other.name}'


def _result_blocks(one: Run, other: Run, names: tuple[str, str]) -> list[Block]:
    def cell(run: Run, key: str) -> object:
        value = run.result.get(key)
        if not isinstance(value, int | float):
            return ''
        return Bar(value, run.result.get(f'{key}_low'), run.result.get(f'{key}_high'))

    rows = [[key.replace('_', ' '), cell(one, key), cell(other, key)] for key in _NUMBERS]
    blocks: list[Block] = [Table(['% (95 % interval)', *names], [row for row in rows if any(row[1:])])]
    losses = sorted({key for run in (one, other) for key in run.result if key.endswith(('loss', 'distance'))})
    if losses:
        values = [[key, *(number_text(run.result.get(key)) for run in (one, other))] for key in losses]
        blocks.append(Table(['validation · 검증', *names], values))
    if one.predictions and other.predictions:
        blocks += _difference_blocks(one, other, names)
    return blocks


def _difference_blocks(one: Run, other: Run, names: tuple[str, str]) -> list[Block]:
    """The difference of the accuracies, paired by question, as a whole and by answer type."""
    files = [run.folder / 'predictions.jsonl' for run in (one, other)]
    try:
        found = compare_predictions(*map(read_predictions, files), names=(str(files[0]), str(files[1])))
    except KoviltError as error:
        return [Paragraph(f'No difference by question: {error}')]
    low, high = found['difference_interval']
    text = (
        f'{names[1]} - {names[0]}: {found["difference"]:+.2f} points (95 %: {low:+.2f} to {high:+.2f}; McNemar '
        f'p = {found["mcnemar_p"]:.3g}). {names[0]} alone is better on {found["only_a"]:,} questions, {names[1]} alone '
        f'on {found["only_b"]:,}.'
    )
    rows = [
        [
            name,
            f'{part["questions"]:,}',
            *(Bar(accuracy) for accuracy in part['accuracy']),
            '{:+.2f} ({:+.2f} to {:+.2f})'.format(part['difference'], *part['difference_interval']),
        ]
        for name, part in found['types'].items()
    ]
    return [Paragraph(text), Table(['answer type · 질문 유형', 'questions', *names, 'difference'], rows)]


def _curve_blocks(one: Run, other: Run, names: tuple[str, str]) -> list[Block]:
    labels = ('A', 'B')  # figures have no Hangul, the names of folders may
    panels = run_panels({label: run.curves for label, run in zip(labels, (one, other), strict=True) if run.curves})
    if not panels:
        return []
    return [
        panel_figures(panels, f'A: {names[0]}, B: {names[1]}; dashed: validation. Each run has its own curves.csv.')
    ]


def _calibration_sections(one: Run, other: Run, names: tuple[str, str]) -> list[Section]:
    return [
        Section(f'Calibration · 확률 보정: {name}', calibration_blocks(run.predictions, run.calibration))
        for run, name in zip((one, other), names, strict=True)
        if run.predictions
    ]


def _question_sections(one: Run, other: Run, names: tuple[str, str]) -> list[Section]:
    """Questions that only one of the two answers correctly, with both answers."""
    found = [{prediction['question_id']: prediction for prediction in run.predictions} for run in (one, other)]
    blocks: list[Block] = []
    for (ours, theirs), name in ((found, names[0]), (found[::-1], names[1])):
        better = [
            prediction
            for number, prediction in ours.items()
            if number and _is_same_question(prediction, theirs.get(number))
            if prediction['correct'] > theirs[number]['correct']
        ]
        better.sort(key=lambda prediction: -prediction['score'])
        chosen = different_images(better, MAX_EXAMPLES)
        if chosen:
            cards = [_pair_card(prediction, theirs[prediction['question_id']]) for prediction in chosen]
            blocks.append(Cards(cards, f'{name} is right, the other is not ({len(better):,})'))
    return [Section('Different answers · 서로 다른 답', blocks)]


def _is_same_question(one: Prediction, other: Prediction | None) -> bool:
    """Other data may have the same question ids."""
    return other is not None and all(one[key] == other[key] for key in ('question', 'ground_truth'))


def _pair_card(prediction: Prediction, other: Prediction) -> Card:
    card = prediction_card(prediction)
    line = ('다른 모델', f'{other["answer"]} ({other["score"]:.0%})')
    return replace(card, lines=[*card.lines[:2], line, *card.lines[2:]])


def _config_blocks(one: Run, other: Run, names: tuple[str, str]) -> list[Block]:
    from kovilt.engine.config_options import flatten_config

    try:
        ours, theirs = ({'.'.join(keys): value for keys, value in flatten_config(run.config)} for run in (one, other))
    except KoviltError as error:
        return [Paragraph(f'The configs cannot be compared: {error}')]
    rows = _different_rows(ours, theirs)
    if not rows:
        return [Paragraph('Both have the same values.')]
    more = [Paragraph(f'and {len(rows) - MAX_KEYS:,} more')] if len(rows) > MAX_KEYS else []
    return [Table(['different · 다른 값', *names], rows[:MAX_KEYS], texts=(0, 1, 2)), *more]


def _different_rows(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[list[str]]:
    keys: Sequence[str] = list(dict.fromkeys([*ours, *theirs]))
    different = [key for key in keys if (key in ours) != (key in theirs) or ours.get(key) != theirs.get(key)]
    return [[key, *(repr(side[key]) if key in side else '' for side in (ours, theirs))] for key in different]


def _facts_table(one: Run, other: Run, names: tuple[str, str]) -> Table:
    ours, theirs = describe_run(one), describe_run(other)
    rows = [[name, ours.get(name, ''), theirs.get(name, '')] for name in dict.fromkeys([*ours, *theirs])]
    return Table(['', *names], rows, texts=(0, 1, 2))
