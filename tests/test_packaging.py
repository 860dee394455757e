"""What `pip install` brings: the needs declared are those imported, and the wheel holds all of kovilt, nothing else."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kovilt

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = {'PIL': 'pillow', 'mmcv': 'mmcv-lite', 'ot': 'POT', 'cv2': 'mmcv-lite'}  # mmcv-lite brings OpenCV


def needs(name: str) -> dict[str, Requirement]:
    lines = (line.split('#')[0].strip() for line in (ROOT / f'requirements/{name}.txt').read_text('utf-8').splitlines())
    return {need.name: need for need in map(Requirement, filter(None, lines))}


OWN = {
    'kovilt',
    'tests',
    'benchmarks',
    'reproduction',
    'configs',
    *(path.stem for path in (ROOT / 'tests/support').glob('*.py')),
}


@cache
def imported(folder: str) -> dict[str, str]:
    """Third-party packages that the files of a folder import, each with a file that does."""
    found = {}
    for path in sorted((ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in (name.split('.')[0] for name in names):
                if name not in sys.stdlib_module_names and name not in OWN:
                    found[DISTRIBUTIONS.get(name, name)] = str(path.relative_to(ROOT))
    return found


def test_what_kovilt_imports_is_declared():
    undeclared = imported('kovilt').keys() - needs('runtime').keys()
    assert undeclared <= needs('optional').keys(), {name: imported('kovilt').get(name) for name in undeclared}


def test_what_the_tests_import_is_declared():
    assert imported('tests').keys() <= {**needs('runtime'), **needs('tests'), **needs('optional')}.keys()


def test_torch_and_torchvision_have_no_upper_bound():
    for name in ('torch', 'torchvision'):
        assert not any(bound.operator in ('<', '<=', '==', '~=') for bound in needs('runtime')[name].specifier)


def test_the_version_is_said_once():
    assert re.fullmatch(r'\d+\.\d+\.\d+', kovilt.__version__)
    assert f'version: {kovilt.__version__}\n' in (ROOT / 'CITATION.cff').read_text('utf-8')
    assert f'## [{kovilt.__version__}] - ' in (ROOT / 'CHANGELOG.md').read_text('utf-8')
    assert 'project' not in tomllib.loads((ROOT / 'pyproject.toml').read_text('utf-8'))


def test_every_folder_of_the_package_is_a_package():
    folders = {path.parent for path in (ROOT / 'kovilt').rglob('*.py')}
    assert [str(folder) for folder in sorted(folders) if not (folder / '__init__.py').is_file()] == []


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built offline from a copy, so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    for name in ('kovilt', 'requirements'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    build = 'from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])'
    subprocess.run([sys.executable, '-c', build, str(out)], cwd=source, check=True, capture_output=True)
    (path,) = out.glob('*.whl')
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_code_the_assets_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if '.dist-info/' not in name}
    tree = {
        str(path.relative_to(ROOT))
        for path in (ROOT / 'kovilt').rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    assert names == tree
    assert 'kovilt/py.typed' in names


def test_the_wheel_says_what_it_needs(wheel):
    (metadata,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith('METADATA'))
    said = {line.removeprefix('Requires-Dist: ') for line in metadata.splitlines() if line.startswith('Requires-Dist')}
    assert {str(Requirement(line)) for line in said if 'extra ==' not in line} == set(
        map(str, needs('runtime').values())
    )
    assert 'Requires-Python: >=3.11' in metadata
    assert any(name.endswith('licenses/LICENSE') for name in wheel.namelist())


def test_this_environment_meets_the_needs():
    from importlib.metadata import version

    for need in needs('runtime').values():
        assert need.specifier.contains(version(need.name), prereleases=True), (
            f'{need} is not met by {version(need.name)}'
        )
