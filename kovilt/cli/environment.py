"""Checks at start-up that the installed packages work together, and names the command that repairs them.

It reads the metadata of the packages instead of importing them: a wrong torchvision fails at import with a message that
does not tell the cause ("operator torchvision::nms does not exist"). Only OpenCV, which needs system libraries, is
imported.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from kovilt.errors import KoviltError


def check_environment() -> None:
    """Check torch and torchvision, packages that overwrite each other, and OpenCV.

    Raises:
        KoviltError: they cannot work together.
    """
    torch, torchvision = _installed_version('torch'), _installed_version('torchvision')
    remedy = 'pip install --upgrade torch torchvision'
    if torch is None or torchvision is None:
        missing = 'torch' if torch is None else 'torchvision'
        raise KoviltError(f'{missing} is not installed; run: {remedy}')
    required = [item for item in map(Requirement, requires('torchvision') or []) if item.name == 'torch']
    if any(not item.specifier.contains(torch, prereleases=True) for item in required):
        versions = ', '.join(str(item) for item in required)
        raise KoviltError(f'torchvision {torchvision} needs {versions}, but torch {torch} is installed; run: {remedy}')
    if torch.endswith('+cpu') and not torchvision.endswith('+cpu'):
        raise KoviltError(
            f'torch {torch} is a build for the CPU and torchvision {torchvision} one for CUDA; install both from one '
            'index, e.g.: pip install --force-reinstall torch torchvision'
        )
    if _installed_version('mmcv') and _installed_version('mmcv-lite'):
        raise KoviltError(
            'mmcv and mmcv-lite are both installed and overwrite each other; run: '
            'pip uninstall -y mmcv mmcv-lite && pip install "mmcv-lite>=2.2.0,<2.4"'
        )
    if _installed_version('onedl-mmengine'):
        raise KoviltError(
            'onedl-mmengine overwrites mmengine; run: pip uninstall -y onedl-mmengine mmengine && '
            'pip install "mmengine>=0.11.0rc3,<0.12"'
        )
    try:
        import cv2  # noqa: F401  the runner of MMEngine imports it
    except ImportError as error:
        raise KoviltError(
            f'OpenCV does not load ({error}); on Debian or Ubuntu run: apt install libgl1 libglib2.0-0'
        ) from error


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
