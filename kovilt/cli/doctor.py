"""Check what kovilt needs of this machine: packages, devices, fonts, disk; and name what repairs or completes it.

    kovilt doctor
    kovilt doctor --json          # for a bug report

Exit code: 0 everything needed is there, 1 something needed is missing or wrong. Notes and optional parts do not count.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kovilt.cli.arguments import CommandParser, available_cpus
from kovilt.terminal import show

LOW_DISK = 2e9  # bytes: a checkpoint of base size with its optimizer takes 1.4 GB
LOW_SHARED_MEMORY = 1e9  # bytes; workers of data loaders pass batches through it


class Finding(NamedTuple):
    """A line of the report.

    level: 'ok', 'note', 'missing' (an optional part) or 'wrong'; remedy: '' if none is needed.
    """

    section: str
    name: str
    value: str
    level: str = 'ok'
    remedy: str = ''


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('--json', action='store_true', help='print the report as JSON')


def run(args: argparse.Namespace) -> int:
    findings = [*check_packages(), *check_devices(), *check_fonts(), *check_space()]
    wrong = sum(finding.level == 'wrong' for finding in findings)
    if args.json:
        import json

        print(json.dumps([finding._asdict() for finding in findings], ensure_ascii=False, indent=1))
        return int(wrong > 0)
    section = ''
    for finding in findings:
        if finding.section != section:
            section = finding.section
            print(f'\n{section}' if finding is not findings[0] else section)
        level = '' if finding.level == 'ok' else f'  {finding.level.upper()}'
        remedy = f': {finding.remedy}' if finding.remedy else ''
        show(f'  {finding.name:<22}{finding.value}{level}{remedy}')
    print(f'\n{wrong} thing{"s" * (wrong != 1)} to repair' if wrong else '\nEverything needed is there')
    return int(wrong > 0)


def check_packages() -> Iterator[Finding]:
    """kovilt, Python, each package that is asked for, packages that do not work together, optional parts."""
    import platform

    import kovilt
    from kovilt.cli.environment import find_clashes, installed_version, list_needs

    yield Finding('kovilt', 'kovilt', f'{kovilt.__version__} in {Path(kovilt.__file__).parent}')
    yield Finding('kovilt', 'Python', f'{platform.python_version()} on {platform.platform()}')
    needs = list_needs()
    for need in needs:
        if not need.extra:
            name, asked = need.requirement.name, str(need.requirement.specifier)
            remedy = '' if need.is_met else f'pip install "{need.requirement}"'
            value = f'{installed_version(name) or "not installed"} (needs {asked})'
            yield Finding('packages', name, value, 'ok' if need.is_met else 'wrong', remedy)
    for clash in find_clashes():
        what, _, remedy = clash.partition('; ')
        yield Finding('packages', 'clash', what, 'wrong', remedy)
    if installed_version('pycocotools'):
        remedy = 'pip uninstall pycocotools, if you train METER'
        yield Finding('packages', 'pycocotools', 'makes mmpretrain fail with transformers 5', 'note', remedy)
    for extra in sorted({need.extra for need in needs if need.extra}):
        absent = [need.requirement.name for need in needs if need.extra == extra and not need.is_met]
        if absent:
            yield Finding(
                'optional parts', extra, f'lacks {", ".join(absent)}', 'missing', f"pip install 'kovilt[{extra}]'"
            )
        else:
            yield Finding('optional parts', extra, 'installed')


def check_devices() -> Iterator[Finding]:
    """The CPU and the GPUs that torch sees, with their arithmetic."""
    yield Finding('devices', 'CPU cores', f'{available_cpus()}')
    try:
        import torch

        from kovilt.modules.processor import has_fast_bfloat16
    except Exception as error:  # a broken installation fails with whatever its first part raises
        yield Finding(
            'devices', 'torch', f'does not load: {str(error).strip().splitlines()[0]}', 'wrong', 'see packages'
        )
        return
    yield Finding('devices', 'bfloat16 on the CPU', 'fast' if has_fast_bfloat16() else 'slower than float32')
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        precision = 'bfloat16' if (gpu.major, gpu.minor) >= (8, 0) else 'float16, no bfloat16'
        yield Finding('devices', f'cuda:{number}', f'{gpu.name}, {gpu.total_memory / 1e9:.0f} GB, {precision}')
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f'no GPU is seen; torch is built for CUDA {built}' if built else 'torch is built without CUDA'
        yield Finding('devices', 'CUDA', why)
    if torch.backends.mps.is_available():
        yield Finding('devices', 'mps', 'available')


def check_fonts() -> Iterator[Finding]:
    """The font with Hangul, which images with sentences need."""
    from kovilt.errors import KoviltError

    try:
        from kovilt.visualization.fonts import korean_font

        font = korean_font()
    except (KoviltError, ImportError) as error:
        yield Finding('fonts', 'Hangul', str(error), 'wrong', 'see the message')
        return
    remedy = '' if font else 'apt install fonts-nanum, or name a font file in KOVILT_FONT'
    value = str(font or 'none found: images show numbers instead of sentences')
    yield Finding('fonts', 'Hangul', value, 'ok' if font else 'note', remedy)


def check_space() -> Iterator[Finding]:
    """Free disk of the current and the temporary folder, and the shared memory of workers."""
    import shutil
    import tempfile

    places = {'current folder': Path.cwd(), 'temporary folder': Path(tempfile.gettempdir())}
    for name, folder in places.items():
        free = shutil.disk_usage(folder).free
        level, remedy = ('note', 'free some: a checkpoint of base size takes 1.4 GB') if free < LOW_DISK else ('ok', '')
        yield Finding('disk', name, f'{free / 1e9:,.1f} GB free in {folder}', level, remedy)
    shared = Path('/dev/shm')  # noqa: S108  nothing is written there
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        level, remedy = ('note', 'docker run --shm-size=8g') if size < LOW_SHARED_MEMORY else ('ok', '')
        yield Finding('disk', 'shared memory', f'{size / 1e9:,.1f} GB in {shared}', level, remedy)
