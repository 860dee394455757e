import subprocess
import sys

import pytest

from kovilt.cli.arguments import CommandParser, at_least, available_cpus


@pytest.fixture
def parser():
    parser = CommandParser('Does something.\n\npython tool.py --jobs 2')
    parser.add_argument('--jobs', type=at_least(1), default=1)
    parser.add_cfg_options()
    return parser


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--jobs', '0'], 'argument --jobs: must be at least 1, not 0'),
        (['--jobs', 'two'], "argument --jobs: invalid int value: 'two'"),
        (['--job-count', '2'], 'unrecognized arguments: --job-count 2'),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(parser, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(arguments)
    assert ended.value.code == 2 and capsys.readouterr().err == f'error: {message}\n'


def test_repeated_config_options_add_up(parser):
    args = parser.parse_args(['--cfg-options', 'a=1', 'b=2', '--debug', '--cfg-options', 'c=3'])
    assert args.cfg_options == ['a=1', 'b=2', 'c=3'] and args.debug


def test_help_keeps_the_lines_of_the_description(parser):
    assert '\npython tool.py --jobs 2\n' in parser.format_help()


def test_the_parser_imports_nothing_heavy():
    code = (
        'import sys; import kovilt.cli.arguments, kovilt.errors; '
        'print([m for m in ("torch", "numpy", "mmengine", "rich") if m in sys.modules])'
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '[]\n'


def test_there_is_a_cpu():
    assert available_cpus() >= 1
