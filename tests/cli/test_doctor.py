"""`kovilt doctor` names what is missing or wrong, with the command that repairs it."""

import json
from importlib.metadata import PackageNotFoundError

import pytest
from packaging.requirements import Requirement

from kovilt.cli import doctor, environment
from kovilt.cli.environment import Need, list_needs


def findings(call, *arguments) -> tuple[int, dict]:
    code, out, _ = call('doctor', '--json', *arguments)
    return code, {(line['section'], line['name']): line for line in json.loads(out)}


def pretend(monkeypatch, **versions):
    real = environment.version

    def version(package: str) -> str:
        found = versions.get(package.replace('-', '_'), real)
        if found is None:
            raise PackageNotFoundError(package)
        return found if isinstance(found, str) else found(package)

    monkeypatch.setattr(environment, 'version', version)


def test_this_environment_is_fine(call, monkeypatch):
    code, out, _ = call('doctor')
    assert code == 0 and out.endswith('\nEverything needed is there\n')
    for words in ('kovilt ', 'Python ', 'torch ', '(needs >=2.10)', 'CPU cores', 'Hangul', 'current folder', 'GB free'):
        assert words in out
    assert '\n  export                installed\n' in out
    code, found = findings(call)
    assert code == 0 and not [line for line in found.values() if line['level'] == 'wrong']


@pytest.mark.parametrize(
    ('versions', 'name', 'value', 'remedy'),
    [
        ({'numpy': '1.26.4'}, 'numpy', '1.26.4 (needs >=2.0)', 'pip install "numpy>=2.0"'),
        ({'pyarrow': None}, 'pyarrow', 'not installed (needs >=', 'pip install "pyarrow>='),
        ({'mmcv': '2.2.0'}, 'clash', 'mmcv and mmcv-lite are both installed', 'run: pip uninstall -y mmcv mmcv-lite'),
        ({'torchvision': None}, 'clash', 'torchvision is not installed', 'run: pip install --upgrade torch'),
    ],
)
def test_a_wrong_package_is_named_with_its_remedy_and_code_1(call, monkeypatch, versions, name, value, remedy):
    pretend(monkeypatch, **versions)
    code, found = findings(call)
    line = found['packages', name]
    assert code == 1 and line['level'] == 'wrong'
    assert line['value'].startswith(value) and line['remedy'].startswith(remedy)
    code, out, _ = call('doctor')
    assert code == 1 and 'WRONG: ' in out and 'to repair' in out.splitlines()[-1]


def test_an_absent_optional_part_is_no_fault(call, monkeypatch):
    pretend(monkeypatch, onnx=None, onnxscript=None)
    code, found = findings(call)
    line = found['optional parts', 'export']
    assert (code, line['level']) == (0, 'missing')
    assert line['value'] == 'lacks onnx, onnxscript' and line['remedy'] == "pip install 'kovilt[export]'"


def test_torch_that_does_not_load_is_a_finding(call, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'torch', None)
    code, found = findings(call)
    assert code == 1 and found['devices', 'torch']['value'].startswith('does not load: ')


def test_little_disk_and_no_font_are_notes(call, monkeypatch):
    monkeypatch.setattr(doctor, 'LOW_DISK', 1e30)
    monkeypatch.setattr('kovilt.visualization.fonts.korean_font', lambda: None)
    code, found = findings(call)
    assert code == 0 and found['fonts', 'Hangul']['remedy'].startswith('apt install fonts-nanum')
    assert found['disk', 'current folder']['level'] == found['disk', 'temporary folder']['level'] == 'note'


def test_an_installed_kovilt_is_asked_for_its_needs(monkeypatch, tmp_path):
    in_the_checkout = {(str(need.requirement), need.extra) for need in list_needs()}
    names = ['demo', 'docs', 'export', 'mlflow', 'serve', 'sweep', 'tensorboard', 'tests', 'wandb']
    assert {extra for _, extra in in_the_checkout} == {'', *names}
    declared = [f'{need.requirement}' + (f'; extra == "{need.extra}"' if need.extra else '') for need in list_needs()]
    monkeypatch.setattr(environment.kovilt, '__file__', str(tmp_path / 'site-packages' / 'kovilt' / '__init__.py'))
    monkeypatch.setattr(environment, 'requires', lambda name: declared)
    extras = {'Provides-Extra': names}
    monkeypatch.setattr(
        environment, 'metadata', lambda name: type('', (), {'get_all': lambda self, key: extras[key]})()
    )
    found = {(str(need.requirement).partition(';')[0], need.extra) for need in list_needs()}
    assert found == in_the_checkout


def test_a_need_is_met_by_a_version_in_its_range_also_a_pre_release(monkeypatch):
    monkeypatch.setattr(environment, 'version', {'mmengine': '0.11.0rc3'}.__getitem__)
    assert Need(Requirement('mmengine>=0.11.0rc3,<0.12'), '').is_met
    assert not Need(Requirement('mmengine>=0.12'), '').is_met
