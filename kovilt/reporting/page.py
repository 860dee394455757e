"""Writes the report of a run and what belongs to it: curves.png, curves.csv, the model folder, report.html."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from kovilt.errors import KoviltError, first_line
from kovilt.files import read_json
from kovilt.reporting.facts import (
    data_section,
    losses_table,
    panel_figures,
    result_section,
    run_section,
    verification_blocks,
)
from kovilt.reporting.predictions import prediction_sections
from kovilt.reporting.run import Run
from kovilt.visualization import draw_curves, run_panels, write_curves_csv, write_report
from kovilt.visualization.report import Block, Paragraph, Section

Part = TypeVar('Part')


def write_run_report(folder: str | Path, out: str | Path | None = None) -> tuple[Path, list[str]]:
    """Write curves, model folder and report of a work folder, from what is in it; earlier ones are replaced.

    Args:
        folder: a work folder of `kovilt train` or `kovilt test`.
        out: the page; None = `report.html` in the folder.

    Returns:
        the page, and what is missing on it, each with the reason in one line. The page says so, too.

    Raises:
        KoviltError: the folder holds no run.
    """
    run = Run(folder)
    attempt = _Attempts()
    attempt('model folder', lambda: _write_model(run), None)
    result = attempt('result', lambda: result_section(run), Section('Result · 결과'))
    no_blocks, no_sections = list[Block](), list[Section]()
    curves = attempt('curves', lambda: _curve_blocks(run), no_blocks)
    data = attempt('data', lambda: data_section(run), Section('Data · 데이터'))
    findings = no_blocks if run.is_test else attempt('verification', lambda: verification_blocks(run), no_blocks)
    sections = [
        result,
        *([Section('Curves · 학습 곡선', curves)] if curves else []),
        *attempt('predictions', lambda: _prediction_sections(run, attempt), no_sections),
        *attempt('pre-training examples', lambda: _pretraining_sections(run), no_sections),
        Section(data.title, [*data.blocks, *findings]),
        attempt('run', lambda: run_section(run), Section('Run · 실행')),
    ]
    if attempt.missing:
        sections.insert(1, Section('Missing · 빠진 부분', [Paragraph(text) for text in attempt.missing]))
    page = write_report(
        out or run.folder / 'report.html',
        title=f'{run.config_file.stem if run.config_file else run.name}: {"test" if run.is_test else "training"}',
        lead=f'{run.folder}',
        sections=sections,
        footer=f'kovilt report {run.folder}',
    )
    return page, attempt.missing


class _Attempts:
    """Makes the parts of a page; one that fails is noted in `missing`, and the others are made all the same."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def __call__(self, name: str, make: Callable[[], Part], default: Part) -> Part:
        try:
            return make()
        except Exception as error:
            self.missing.append(f'{name} ({first_line(error)})')
            return default


def _write_model(run: Run) -> None:
    """Write the checkpoint as the model folder `model`; a test of a model folder needs none."""
    from kovilt.apis.export import export_trained

    if run.is_test and (run.checkpoint is None or run.checkpoint.is_dir()):
        return
    folder = run.folder / 'model'
    export_trained(_with_fitted(run.trained, folder), folder, overwrite=True)


def _with_fitted(trained: Any, folder: Path) -> Any:
    """A `TrainedModel` with what was fitted to the model folder that it replaces, if its weights are the same: the
    calibration and the image detector.
    """
    from kovilt.weights.folder import load_model_folder
    from kovilt.weights.folder_info import INFO

    if not (folder / INFO).is_file() or not {'calibration', 'image_detector'} & read_json(folder / INFO).keys():
        return trained
    try:
        before = load_model_folder(folder)
    except KoviltError:  # damaged
        return trained
    ours, theirs = trained.model.state_dict(), before.model.state_dict()
    if ours.keys() != theirs.keys() or not all(ours[name].equal(theirs[name]) for name in ours):
        return trained
    info = {**trained.info, 'calibration': before.info.get('calibration')}
    return replace(trained, info=info, image_detector=before.image_detector)


def _curve_blocks(run: Run) -> list[Block]:
    if run.curves_folder is None:
        return []
    panels = run_panels({'': run.curves})
    if not panels:
        return [Paragraph('The run was too short to log a value.')]
    draw_curves(panels, run.folder / 'curves.png')
    write_curves_csv(run.curves_folder, run.folder / 'curves.csv')
    return [panel_figures(panels, 'Dashed: validation. All values stand in curves.csv.'), losses_table(run)]


def _prediction_sections(run: Run, attempt: _Attempts) -> list[Section]:
    if not run.has_predictions:
        return []
    return prediction_sections(
        run.predictions, attempt('frequency of answers', lambda: run.answer_counts, {}), run.calibration
    )


def _pretraining_sections(run: Run) -> list[Section]:
    if run.has_predictions or not hasattr(run.trained.model, 'fill_masks'):
        return []
    from kovilt.reporting.pretraining import pretraining_sections

    return pretraining_sections(run)
