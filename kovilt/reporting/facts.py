"""The part of a report that is about the run itself: its result, its losses, its data, how it was made."""

from __future__ import annotations

import datetime
import math
import shlex
import time
from collections.abc import Sequence
from typing import Any

from kovilt.evaluation.scoring import is_lower_better
from kovilt.files import read_text
from kovilt.reporting.run import Run
from kovilt.verification import FINDING_KINDS, VerificationReport, sources_of_config, verify
from kovilt.visualization.curves import Panel, describe_panel, draw_panel, percent_scale
from kovilt.visualization.report import Bar, Block, Figure, FigureRow, Listing, Paragraph, Section, Table, data_url

_RESULTS = {  # keys of the metrics, and how the page calls them
    'accuracy': 'accuracy · 정확도',
    'tolerant_accuracy': 'the same, spelling ignored · 표기 차이 허용',
    'circular_accuracy': 'in every order of the options (CircularEval) · 보기의 모든 순서에서',
    'random_accuracy': 'options chosen at random · 무작위 선택',
    'majority_accuracy': 'always the most frequent answer · 최빈 답',
    'ceiling': 'possible at most with the answers of training · 상한',
    'answerable_accuracy': 'of the questions whose answer is known · 어휘 안의 질문만',
    'mlm_accuracy': 'masked tokens · 가린 토큰',
    'itm_accuracy': 'image-text matching · 이미지-텍스트 매칭',
}
# Verification reads all rows and the headers of all images. It is part of a report where it takes no longer than this:
# what takes longer is not begun or, where images come slower than is usual, given up.
_SECONDS_A_ROW, _SECONDS_AN_IMAGE = 40e-6, 1.5e-3
_MIN_SECONDS, _SHARE_OF_RUN = 15.0, 0.02


def result_section(run: Run) -> Section:
    """The result beside its baselines; of pre-training the losses and accuracies of the last validation."""
    result = run.result
    rows: list[list[Any]] = []
    for key, name in _RESULTS.items():
        value = result.get(key)
        if isinstance(value, int | float):
            low, high = (result.get(f'{key}_{end}') for end in ('low', 'high'))
            rows.append([name, Bar(value, low, high)])
    blocks: list[Block] = []
    if (accuracy := result.get('accuracy')) is not None:
        beside = [
            f'{result[key]:.1f} % {words}'
            for key, words in (('majority_accuracy', 'for the most frequent answer'), ('ceiling', 'at most'))
            if key in result
        ]
        interval = f' (95 % interval {result["accuracy_low"]:.1f} to {result["accuracy_high"]:.1f})'
        blocks.append(
            Paragraph(
                f'{accuracy:.1f} % of {result.get("questions", 0):,} questions are answered correctly'
                f'{interval if "accuracy_low" in result else ""}{"; " if beside else ""}{", ".join(beside)}.'
            )
        )
        if result.get('broken'):
            blocks.append(
                Paragraph(f'{result["broken"]:,} questions have a missing or broken image and count as wrong.')
            )
    if rows:
        blocks.append(Table(['', '% (95 % interval)'], rows))
    losses = [[name, number_text(value)] for name, value in result.items() if name.endswith(('loss', 'distance'))]
    if losses:
        blocks.append(Table(['validation · 검증', 'value'], losses))
    checkpoint = run.checkpoint.name if run.checkpoint else 'no checkpoint'
    where = (
        'tested' if run.is_test else 'the best validation' if checkpoint.startswith('best') else 'the last validation'
    )
    blocks.append(Paragraph(f'Checkpoint: {checkpoint} ({where}).'))
    return Section('Result · 결과', blocks)


def panel_figures(panels: Sequence[Panel], caption: str) -> FigureRow:
    """The panels side by side, or one below the other on a narrow screen."""
    figures = [Figure(data_url(draw_panel(panel), 'png'), '', describe_panel(panel)) for panel in panels]
    return FigureRow(figures, caption, width=21)


def losses_table(run: Run) -> Table:
    """First, best and last value of each loss and of the other numbers of the curves."""
    rows = []
    for name, (steps, values) in run.curves.items():
        scale = percent_scale(*name.split('/', 1))
        known = [(scale * value, step) for value, step in zip(values, steps, strict=True) if math.isfinite(value)]
        if (
            '/' in name.partition('/')[2]
            or not known
            or not name.endswith(('loss', 'accuracy', 'distance'))
            or 'majority' in name
        ):
            continue
        best = (min if is_lower_better(name) else max)(known, key=lambda one: one[0])  # the first of equal ones
        first, last = number_text(known[0][0]), number_text(known[-1][0])
        rows.append([name, first, f'{number_text(best[0])} (step {best[1]:,})', last])
    return Table(['', 'first · 처음', 'best · 최고', 'last · 마지막'], rows)


def number_text(value: object) -> str:
    """A loss or another number of any size with four digits; nothing for one that is missing or was not finite."""
    return f'{value:.4g}' if isinstance(value, int | float) else ''


def data_section(run: Run) -> Section:
    """What the data was; of a training `verification_blocks` follow."""
    rows = [
        [
            split,
            f'{data.get("rows", 0):,}',
            f'{data.get("images", 0):,}',
            str(data.get('reader', data.get('type', ''))),
            str(data.get('data_root', '')),
            ', '.join(f'{reason} {count:,}' for reason, count in (data.get('left_out') or {}).items()),
            f'{len(data.get("broken_images") or ()):,}',
        ]
        for split, data in run.data.items()
    ]
    header = ['split', 'rows', 'images', 'reader', 'folder', 'left out', 'broken images']
    blocks: list[Block] = [Table(header, rows, texts=(0, 3, 4, 5))] if rows else []
    return Section('Data · 데이터', blocks)


def verification_blocks(run: Run) -> list[Block]:
    """What `kovilt verify` finds in the data of a training, from the headers of the images."""
    rows, images = (sum(data.get(key, 0) for data in run.data.values()) for key in ('rows', 'images'))
    name = run.config_file.name if run.config_file else 'CONFIG'
    limit = max(_MIN_SECONDS, _SHARE_OF_RUN * run.seconds)
    too_long: list[Block] = [
        Paragraph(f'Not verified here, because it would take long beside the run: kovilt verify {name}')
    ]
    if rows * _SECONDS_A_ROW + images * _SECONDS_AN_IMAGE > limit:
        return too_long
    end = time.monotonic() + limit

    def watch(done: int, total: int) -> None:
        if time.monotonic() > end:
            raise _TooLong

    try:
        sources = sources_of_config(run.config, str(run.config_file))
        return findings_blocks(verify(sources, deep=False, workers=1, progress=watch), name)
    except _TooLong:
        return too_long


class _TooLong(Exception):
    """Ends a verification whose images are read too slowly."""


def findings_blocks(found: VerificationReport, name: str) -> list[Block]:
    codes = dict.fromkeys(one.code for one in found.findings)
    rows = [
        [FINDING_KINDS[code].severity, code, f'{found.findings.counts[code]:,}', str(found.findings.of(code)[0])]
        for code in codes
    ]
    text = f'kovilt verify {name}: {found.totals()}. {found.how_checked()}.'
    table = Table(['severity', 'code', 'findings', 'first · 첫 번째'], rows, texts=(0, 1, 3))
    return [Paragraph(text), *([table] if rows else [])]


def run_section(run: Run) -> Section:
    """Command, versions, git state, seed, machine, time and memory, and the config."""
    blocks: list[Block] = [Table(['', ''], [[name, value] for name, value in describe_run(run).items()], texts=(0, 1))]
    if run.config_file is not None:
        text = read_text(run.config_file, 'config')
        blocks.append(Listing(f'Config · 설정: {run.config_file.name}', text))
    return Section('Run · 실행', blocks)


def describe_run(run: Run) -> dict[str, str]:
    """What identifies a run, by name."""
    found = run.environment
    facts = {
        'folder': str(run.folder),
        'command': shlex.join(map(str, found.get('command') or [])),
        'started': str(found.get('started', '')),
        'kovilt': str(found.get('kovilt', '')),
        'git': str(found.get('git') or 'no repository'),
        'changed since the commit': (', '.join(found.get('git_changes') or []) or 'nothing')
        if found.get('git')
        else '',
        'seed': str(found.get('seed', '')),
        'processes': str(found.get('processes', '')),
        'python': str(found.get('python', '')),
        'packages': ', '.join(f'{name} {version}' for name, version in (found.get('packages') or {}).items()),
        'machine': str(found.get('machine', '')),
        'CPUs': str(found.get('cpus', '')),
        'threads': str(found.get('threads', '')),
        'GPUs': ', '.join(found.get('gpus') or []) or 'none',
    }
    epochs = [row for row in run.rows if row.get('mode') == 'epoch']
    if run.rows:
        facts['steps'] = f'{max(row.get("step", 0) for row in run.rows):,}'
        facts['time'] = f'{datetime.timedelta(seconds=round(run.seconds))} from the first record to the last (h:mm:ss)'
    if epochs and 'epoch_seconds' in epochs[-1]:
        last = epochs[-1]
        facts['an epoch'] = f'{last["epoch_seconds"]:.1f} s, {last.get("texts_per_second", 0):.0f} texts a second'
        peak = max(row.get('peak_memory_mb', 0) for row in epochs)
        facts['memory'] = f'{peak:,.0f} MiB at most in a process'
    return {name: value for name, value in facts.items() if value}
