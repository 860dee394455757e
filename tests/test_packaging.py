"""What `pip install` brings: the needs declared are those imported, and the wheel holds all of kovilt, nothing else."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

import kovilt
from kovilt.cli.main import overview
from kovilt.model_names import packaged_models

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ('demo', 'docs', 'export', 'mlflow', 'serve', 'sweep', 'tensorboard', 'tests', 'wandb')
IN_THE_SDIST = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'CITATION.cff', 'CHANGELOG.md', 'README.md')
IN_THE_SDIST += ('README.ko.md', 'requirements.txt', 'requirements', 'model-index.yml', 'configs', 'tools')
DISTRIBUTIONS = {
    'yaml': 'mmengine',
    'PIL': 'pillow',
    'mmcv': 'mmcv-lite',
    'ot': 'POT',
    'cv2': 'mmcv-lite',
    'fastapi_offline': 'fastapi-offline',
    'prometheus_client': 'prometheus-client',
    'google': 'protobuf',
    'grpc': 'grpcio',
    'kubernetes_validate': 'kubernetes-validate',
}  # mmcv-lite brings OpenCV


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
    extras = needs('demo') | needs('export') | needs('serve') | needs('sweep') | needs('tensorboard')
    assert undeclared <= extras.keys(), {name: imported('kovilt').get(name) for name in undeclared}


def test_what_the_tests_import_is_declared():
    assert (
        imported('tests').keys()
        <= {name: need for file in ('runtime', *EXTRAS) for name, need in needs(file).items()}.keys()
    )


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
def wheel(tmp_path_factory) -> Path:
    """The wheel, built offline from the sdist of a copy, in which earlier builds have left files."""
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('dist')
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    for name in (*IN_THE_SDIST, 'kovilt'):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({'ignore': ignored} if (ROOT / name).is_dir() else {}))
    build(source, out, 'sdist')
    (archive,) = out.glob('*.tar.gz')
    shutil.unpack_archive(archive, out)
    unpacked = out / archive.name.removesuffix('.tar.gz')
    for stale in (
        'build/lib/kovilt/removed.py',
        'build/lib/kovilt/.mim/configs/removed.py',
        'kovilt/.mim/tools/old.py',
    ):
        (unpacked / stale).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / stale).touch()
    build(unpacked, out, 'wheel')
    return next(out.glob('*.whl'))


def build(source: Path, out: Path, kind: str) -> None:
    program = f'from setuptools.build_meta import build_{kind}; import sys; build_{kind}(sys.argv[1])'
    done = subprocess.run([sys.executable, '-c', program, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def files_below(folder: str) -> set[str]:
    """Paths from the root of the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and not {'__pycache__', '.mim'} & {*path.parts}
    }


def test_the_wheel_holds_the_code_the_assets_the_configs_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
    for_openmmlab = {
        f'kovilt/.mim/{name}' for name in {'model-index.yml'} | files_below('configs') | files_below('tools')
    }
    assert names == files_below('kovilt') | for_openmmlab
    assert {'kovilt/py.typed', 'kovilt/.mim/configs/rooms/vqa.py', 'kovilt/.mim/tools/train.py'} <= names


def test_the_models_of_the_wheel_are_small_and_tell_how_they_were_trained():
    assert 'rooms_encoder' in packaged_models()
    for name, folder in packaged_models().items():
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6, name
        assert '## Training' in (folder / 'README.md').read_text('utf-8'), name


def test_an_editable_installation_links_the_configs_anew(tmp_path):
    for name in IN_THE_SDIST:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'setup.py').unlink()
    shutil.copy(ROOT / 'setup.py', tmp_path)  # where it lies, the links are made
    (tmp_path / 'kovilt' / '.mim' / 'configs').mkdir(parents=True)  # of an earlier installation
    for name in ('__init__.py', 'version.py'):
        shutil.copy(ROOT / 'kovilt' / name, tmp_path / 'kovilt')
    build(tmp_path, tmp_path / 'dist', 'editable')
    mim = tmp_path / 'kovilt' / '.mim'
    assert (mim / 'configs').readlink() == Path('../../configs')
    assert {path.name for path in mim.iterdir()} == {'configs', 'tools', 'model-index.yml'}
    assert (mim / 'configs' / 'rooms' / 'vqa.py').is_file() and (mim / 'tools' / 'train.py').is_file()


def test_the_list_of_configs_for_openmmlab_is_complete():
    found = []
    for file in yaml.safe_load((ROOT / 'model-index.yml').read_text('utf-8'))['Import']:
        found += [model['Config'] for model in yaml.safe_load((ROOT / file).read_text('utf-8'))['Models']]
    assert sorted(found) == sorted(
        name for name in files_below('configs') if name.endswith('.py') and '_base_' not in name
    )


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory) -> Callable[..., str]:
    """Runs a program of a fresh environment, into which the wheel was installed, in an empty folder.

    The other packages are those of this environment: its site-packages are listed in a .pth file, which does not carry
    over an editable kovilt. Returns what the program prints.
    """
    environment, empty = tmp_path_factory.mktemp('environment'), tmp_path_factory.mktemp('empty')
    venv.create(environment, with_pip=False)
    python = environment / 'bin' / 'python'
    (site,) = (environment / 'lib').glob('python*/site-packages')
    (site / 'packages_of_the_tests.pth').write_text(sysconfig.get_path('purelib') + '\n')
    pip = [sys.executable, '-m', 'pip', '--python', str(python), 'install', '--quiet', '--no-deps', '--no-index']
    subprocess.run([*pip, str(wheel)], check=True)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(('KOVILT_', 'PYTHON'))}

    def run(program: str, *arguments: object, **more: str) -> str:
        command = [str(environment / 'bin' / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=empty, env=variables | more, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr
        return done.stdout

    run.folder, run.site = empty, site
    return run


def test_the_command_of_the_wheel_does_not_need_the_repository(installed):
    assert installed('kovilt', '--help') == overview() + '\n'
    found = {line['name']: line for line in json.loads(installed('kovilt', 'doctor', '--json'))}
    assert found['kovilt']['value'] == f'{kovilt.__version__} in {installed.site / "kovilt"}'
    assert found['torch']['level'] == 'ok' and found['export']['level'] in ('ok', 'missing')
    assert not list(installed.folder.iterdir())


def test_openmmlab_finds_the_configs_of_the_wheel(installed):
    mine = installed.folder / 'mine.py'
    mine.write_text("_base_ = 'kovilt::rooms/vqa.py'\ntrain_cfg = dict(max_iters=7)\n")
    code = """
import kovilt.registry
from kovilt.cli.main import main
from mmengine.hub import get_config
assert get_config('kovilt::kovilt_vqa_aihub.py').model.type == 'ViLTForVQA'
assert get_config('kovilt::rooms/pretrain.py').filename.endswith('kovilt/.mim/configs/rooms/pretrain.py')
main(['config', 'mine.py', 'train_cfg'])
"""
    said = installed('python', '-c', code)
    assert re.search(r'train_cfg.max_iters = 7 +# mine.py', said)
    assert re.search(r'train_cfg.val_interval = 1000 +# .*\.mim/configs/rooms/vqa.py', said)
    mine.unlink()


def test_the_wheel_trains_tests_and_answers_in_an_empty_folder(installed):
    tokenizer = installed.site / 'kovilt' / 'assets' / 'rooms_encoder'
    (installed.folder / 'data' / 'custom').mkdir(parents=True)
    Image.new('RGB', (64, 64), 'red').save(installed.folder / 'data' / 'custom' / 'a.png')
    row = {'image': 'a.png', 'question': '소파는 무슨 색이에요?'}
    rows = ''.join(json.dumps({**row, 'answer': answer}) + '\n' for answer in ('빨간색', '파란색'))
    for name in ('train.jsonl', 'val.jsonl'):
        (installed.folder / 'data' / 'custom' / name).write_text(rows)
    small = [f'model.encoder.{key}' for key in ('hidden_size=16', 'num_layers=1', 'num_heads=2')]
    small += ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']
    small += ['train_dataloader.persistent_workers=False', 'val_dataloader.persistent_workers=False']
    installed('kovilt', 'train', 'kovilt_vqa_custom', '--cfg-options', *small, KOVILT_TOKENIZER=str(tokenizer))
    work = Path('work_dirs', 'kovilt_vqa_custom')
    said = installed(
        'kovilt', 'test', work / 'kovilt_vqa_custom.py', work / 'epoch_1.pth', '--out', 'predictions.jsonl'
    )
    metrics, report = (f'work_dirs/kovilt_vqa_custom/test/{name}' for name in ('metrics.json', 'report.html'))
    assert metrics in said.splitlines() and said.splitlines()[-1] == f'report: {report}'
    assert len((installed.folder / 'predictions.jsonl').read_text('utf-8').splitlines()) == 2
    answers = installed('kovilt', 'predict', work, 'data/custom/a.png', '의자가 있어요?').splitlines()
    assert answers[0] == '의자가 있어요?' and {answer.split()[0] for answer in answers[1:]} == {'빨간색', '파란색'}


def test_the_quickstart_of_the_wheel(installed):
    said = installed('kovilt', 'quickstart', '--scale', 'tiny')
    assert 'kovilt quickstart: 4 steps into work_dirs/quickstart_tiny' in said
    assert 'kovilt quickstart --scale tiny --compare (make quickstart COMPARE=1)' in said
    assert '$ kovilt predict work_dirs/quickstart_tiny/model ' in said
    for name in ('report.html', 'curves.png', 'contact_sheet.png', 'summary.json', 'model/model.safetensors'):
        assert (installed.folder / 'work_dirs' / 'quickstart_tiny' / name).stat().st_size > 0


def test_the_wheel_says_what_it_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith('METADATA'))
    said = {line.removeprefix('Requires-Dist: ') for line in metadata.splitlines() if line.startswith('Requires-Dist')}
    assert {str(Requirement(line)) for line in said if 'extra ==' not in line} == set(
        map(str, needs('runtime').values())
    )
    assert 'Requires-Python: >=3.11' in metadata
    for extra in EXTRAS:
        asked = {str(Requirement(line).specifier) for line in said if f'extra == "{extra}"' in line}
        assert f'Provides-Extra: {extra}\n' in metadata and asked == {
            str(need.specifier) for need in needs(extra).values()
        }
    assert any(name.endswith('licenses/LICENSE') for name in archive.namelist())


def test_this_environment_meets_the_needs():
    from importlib.metadata import version

    for need in needs('runtime').values():
        assert need.specifier.contains(version(need.name), prereleases=True), (
            f'{need} is not met by {version(need.name)}'
        )
