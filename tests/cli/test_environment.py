import sys

import pytest

from kovilt.cli import environment
from kovilt.cli.environment import check_environment
from kovilt.errors import KoviltError

GOOD = {'torch': '2.11.0', 'torchvision': '0.26.0', 'mmcv-lite': '2.2.0', 'mmengine': '0.11.0rc3'}


def pretend(monkeypatch, needs=('torch==2.11.0',), **packages):
    installed = GOOD | {name.replace('_', '-'): version for name, version in packages.items()}
    monkeypatch.setattr(environment, 'installed_version', installed.get)
    monkeypatch.setattr(environment, 'requires', lambda name: list(needs))


def test_this_environment_passes():
    check_environment()


@pytest.mark.parametrize(
    ('torch', 'torchvision', 'need'),
    [
        ('2.11.0', '0.26.0', 'torch==2.11.0'),
        ('2.11.0+cpu', '0.26.0+cpu', 'torch==2.11.0'),
        ('2.15.0', '0.29.2', 'torch>=2.14.0'),
    ],
)
def test_matching_versions_pass(monkeypatch, torch, torchvision, need):
    pretend(monkeypatch, [need, 'numpy', 'pillow!=8.3.*,>=5.3.0'], torch=torch, torchvision=torchvision)
    check_environment()


def test_an_opencv_that_lacks_system_libraries_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(KoviltError, match='OpenCV does not load .* apt install libgl1'):
        check_environment()


@pytest.mark.parametrize(
    ('packages', 'culprit', 'remedy'),
    [
        ({'torch': '2.13.0'}, 'needs torch==2.11.0, but torch 2.13.0', 'pip install --upgrade torch torchvision'),
        ({'torch': '2.11.0+cpu'}, 'for CUDA', 'from one index'),
        ({'torchvision': None}, 'torchvision is not installed', 'pip install'),
        ({'mmcv': '2.2.0'}, 'mmcv and mmcv-lite', 'pip uninstall -y mmcv mmcv-lite'),
        ({'onedl_mmengine': '0.10.12'}, 'onedl-mmengine overwrites mmengine', 'pip uninstall'),
    ],
)
def test_wrong_packages_are_named_with_the_remedy_in_one_line(monkeypatch, packages, culprit, remedy):
    pretend(monkeypatch, **packages)
    with pytest.raises(KoviltError) as caught:
        check_environment()
    message = str(caught.value)
    assert culprit in message and remedy in message and '\n' not in message
