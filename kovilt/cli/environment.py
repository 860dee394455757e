"""What kovilt needs of its environment: the packages that requirements ask for, and those that cannot work together.

It reads the metadata of the packages instead of importing them: a wrong torchvision fails at import with a message that
does not tell the cause ("operator torchvision::nms does not exist"). Only OpenCV, which needs system libraries, is
imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

import kovilt
from kovilt.errors import KoviltError


def check_environment() -> None:
    """Check before the work of a command that the packages work together.

    Raises:
        KoviltError: they do not.
    """
    for clash in find_clashes():
        raise KoviltError(clash)


def find_clashes() -> Iterator[str]:
    """What makes the installed packages fail, each in one line with its remedy."""
    torch, torchvision = installed_version('torch'), installed_version('torchvision')
    remedy = 'pip install --upgrade torch torchvision'
    if torch is None or torchvision is None:
        yield f'{"torch" if torch is None else "torchvision"} is not installed; run: {remedy}'
    else:
        required = [item for item in map(Requirement, requires('torchvision') or []) if item.name == 'torch']
        if any(not item.specifier.contains(torch, prereleases=True) for item in required):
            versions = ', '.join(str(item) for item in required)
            yield f'torchvision {torchvision} needs {versions}, but torch {torch} is installed; run: {remedy}'
        if torch.endswith('+cpu') and not torchvision.endswith('+cpu'):
            yield (
                f'torch {torch} is a build for the CPU and torchvision {torchvision} one for CUDA; install both from '
                'one index, e.g.: pip install --force-reinstall torch torchvision'
            )
    if installed_version('mmcv') and installed_version('mmcv-lite'):
        yield (
            'mmcv and mmcv-lite are both installed and overwrite each other; run: '
            'pip uninstall -y mmcv mmcv-lite && pip install "mmcv-lite>=2.2.0,<2.4"'
        )
    if installed_version('onedl-mmengine'):
        yield (
            'onedl-mmengine overwrites mmengine; run: pip uninstall -y onedl-mmengine mmengine && '
            'pip install "mmengine>=0.11.0rc3,<0.12"'
        )
    try:
        import cv2  # noqa: F401  the runner of MMEngine imports it
    except ImportError as error:
        yield f'OpenCV does not load ({error}); on Debian or Ubuntu run: apt install libgl1 libglib2.0-0'


class Need(NamedTuple):
    """A package that kovilt asks for. extra: the optional part that needs it, '' = all of kovilt."""

    requirement: Requirement
    extra: str

    @property
    def is_met(self) -> bool:
        found = installed_version(self.requirement.name)
        return found is not None and self.requirement.specifier.contains(found, prereleases=True)


def list_needs() -> list[Need]:
    """The packages that kovilt asks for: by requirements/ in a checkout, by its metadata where it is installed."""
    folder = Path(kovilt.__file__).parents[1] / 'requirements'
    if (folder / 'runtime.txt').is_file():
        lines = [
            (line.split('#')[0].strip(), '' if file.stem == 'runtime' else file.stem)
            for file in sorted(folder.glob('*.txt'))
            for line in file.read_text('utf-8').splitlines()
        ]
        return [Need(Requirement(line), extra) for line, extra in lines if line]
    declared = [Requirement(line) for line in requires('kovilt') or []]
    extras = metadata('kovilt').get_all('Provides-Extra') or []
    needs = [Need(item, '') for item in declared if item.marker is None or item.marker.evaluate({'extra': ''})]
    for extra in extras:
        wanted = [item for item in declared if item.marker and item.marker.evaluate({'extra': extra})]
        needs += [Need(item, extra) for item in wanted if Need(item, '') not in needs]
    return needs


def require_extra(extra: str) -> None:
    """KoviltError with the one command that installs an optional part, unless all its packages are there."""
    missing = [str(need.requirement) for need in list_needs() if need.extra == extra and not need.is_met]
    if missing:
        raise KoviltError(f"{', '.join(missing)}: not installed; run: pip install 'kovilt[{extra}]'")


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
