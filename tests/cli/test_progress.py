import os
import subprocess
import sys

import pytest

from kovilt.cli import progress
from kovilt.cli.progress import progress_bar


def test_a_log_gets_a_line_every_tenth_with_the_rate_since_nothing_was_done(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    with progress_bar('checking') as report:
        now[0] = 100.0  # of other work before
        report(0, 40)
        for done in range(1, 41):
            now[0] += 0.5
            report(done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == 'checking 4/40, 2 images/s, 18 s left'
    assert lines[-1] == 'checking 40/40, 2 images/s, 0 s left'


def test_a_pipe_gets_no_control_characters_even_where_colours_are_forced():
    code = (
        'from kovilt.cli.progress import progress_bar\n'
        'with progress_bar("checking") as report:\n    [report(done, 30) for done in range(31)]'
    )
    environment = os.environ | {'FORCE_COLOR': '1', 'TTY_COMPATIBLE': '1'}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == '' and done.stderr.count('\n') == 10
    assert '\x1b' not in done.stderr and '\r' not in done.stderr


@pytest.mark.skipif(not hasattr(os, 'openpty'), reason='needs a pseudo-terminal')
def test_a_terminal_gets_a_bar_and_the_lines_printed_meanwhile_above_it():
    code = (
        'from kovilt.cli.progress import progress_bar\n'
        'with progress_bar("checking [1/2]") as report:\n'
        '    report(0, 30); report(15, 30); print("a line", flush=True); report(30, 30)'
    )
    main, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=terminal, stderr=terminal, env=os.environ | {'TERM': 'xterm'}
    )
    assert process.wait(60) == 0
    os.close(terminal)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert 'checking [1/2]' in shown and '30/30' in shown and 'a line' in shown
    assert shown.rstrip().endswith('\x1b[?25h')  # the cursor is shown again
