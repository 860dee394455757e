"""`kovilt demo` hands its options to the demo, and says what it needs."""

import re
from pathlib import Path

import pytest

from kovilt.cli import environment

ROOT = Path(__file__).resolve().parents[2]


def test_without_the_extra_it_says_the_one_command_that_installs_it(call, monkeypatch):
    real = environment.installed_version
    monkeypatch.setattr(environment, 'installed_version', lambda name: None if name == 'gradio' else real(name))
    code, _, error = call('demo')
    assert code == 2 and re.fullmatch(
        r"error: gradio>=[\d.]+: not installed; run: pip install 'kovilt\[demo\]'\n", error
    )


@pytest.mark.parametrize('language', ['en', 'ko'])
def test_the_commands_of_the_page_are_understood(call, monkeypatch, language):
    server = pytest.importorskip('kovilt.serving.demo.server')
    opened = []
    monkeypatch.setattr(server, 'serve_demo', opened.append)
    text = (ROOT / 'docs' / language / 'demo.md').read_text('utf-8')
    lines = re.findall(r'^kovilt (demo.*)$', text, re.M)
    assert len(lines) == 2
    for line in lines:
        assert call(*line.split())[0] == 0
    default, named = opened
    assert (default.model, default.host, default.port, default.compare) == ('rooms', '127.0.0.1', 7860, None)
    assert (named.model, named.compare) == ('work_dirs/quickstart/model', 'rooms')


def test_values_and_models_that_cannot_be_used_are_named(call):
    pytest.importorskip('gradio')
    code, _, error = call('demo', '--port', '70000')
    assert code == 2 and error.startswith('error: port is 70000; it must be')
    code, _, error = call('demo', 'rom', '--port', '0')
    assert code == 2 and error.startswith('error: rom: no such model folder or checkpoint') and 'rooms' in error
