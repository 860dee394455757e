"""A start-up check of the installed packages: names a pair that cannot work together, and the command that mends it.

It reads the packages' metadata instead of importing them: a mismatched torchvision already fails at import, far from
the cause ("operator torchvision::nms does not exist"). Only OpenCV, which needs libraries of the system, is tried.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from kovilt.errors import KoviltError


def check_environment() -> None:
    """Raise KoviltError, one line with the remedy, when something that kovilt stands on cannot work.

    That is: torch and torchvision that are no pair, packages that overwrite each other, an OpenCV that does not load.
    """
    torch, torchvision = _version('torch'), _version('torchvision')
    remedy = 'pip install --upgrade torch torchvision'
    if torch is None or torchvision is None:
        missing = 'torch' if torch is None else 'torchvision'
        raise KoviltError(f'{missing} is not installed; run: {remedy}')
    wanted = [need for need in map(Requirement, requires('torchvision') or []) if need.name == 'torch']
    if any(not need.specifier.contains(torch, prereleases=True) for need in wanted):
        wish = ', '.join(str(need) for need in wanted)
        raise KoviltError(f'torchvision {torchvision} needs {wish}, but torch {torch} is installed; run: {remedy}')
    if torch.endswith('+cpu') and not torchvision.endswith('+cpu'):
        raise KoviltError(
            f'torch {torch} is a build for the CPU and torchvision {torchvision} one for CUDA; install both from one '
            'index, e.g.: pip install --force-reinstall torch torchvision'
        )
    if _version('mmcv') and _version('mmcv-lite'):
        raise KoviltError(
            'mmcv and mmcv-lite are both installed and overwrite each other; run: '
            'pip uninstall -y mmcv mmcv-lite && pip install "mmcv-lite>=2.2.0,<2.4"'
        )
    if _version('onedl-mmengine'):
        raise KoviltError(
            'onedl-mmengine overwrites mmengine; run: pip uninstall -y onedl-mmengine mmengine && '
            'pip install "mmengine>=0.11.0rc3,<0.12"'
        )
    try:
        import cv2  # noqa: F401  mmengine's runner imports it next
    except ImportError as error:
        raise KoviltError(
            f'OpenCV does not load ({error}); on Debian or Ubuntu run: apt install libgl1 libglib2.0-0'
        ) from error


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
