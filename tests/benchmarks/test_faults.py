"""The fast subset of the fault suite: every try survives, and without a safeguard of kovilt failures are found."""

import re
import subprocess
import sys

import pytest

from benchmarks.faults import report
from benchmarks.faults.catalogue import ROWS
from benchmarks.faults.checks import Failed, Outcome, Silent, check_no_drafts, checked, expect_told
from benchmarks.faults.suite import Result, Row, judge
from benchmarks.fixtures import ROOT


def test_the_fast_subset():
    """It starts by removing safeguards and fails unless that is noticed."""
    command = [sys.executable, '-m', 'benchmarks.faults', '--fast']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    survived, tried, silent = map(int, re.search(r'all: (\d+)/(\d+) survived, (\d+) silent', done.stdout).groups())
    assert survived == tried == sum(row.fast for row in ROWS.values()) and silent == 0
    assert done.stdout.count('tries are silent, as they must be') == 4


def fail(error):
    def run(attempt):
        raise error

    return Row('F00', '', '', 1, 0, run)


@pytest.mark.parametrize(
    'row, verdict',
    [
        (fail(Silent('x')), 'silent'),
        (fail(Failed('x')), 'failed'),
        (fail(KeyError('x')), 'failed'),
        (Row('F00', '', '', 1, 0, lambda attempt: None), 'survived'),
    ],
)
def test_a_row_judges_by_what_it_raises(row, verdict):
    assert judge(row, None)[0] == verdict


def test_an_end_without_a_word_is_silent_and_another_end_is_a_failure():
    with pytest.raises(Silent, match='ended with 0, not 1'):
        expect_told(Outcome(0, '', 0.0), 1, 'a word')
    for code, text in ((2, 'a word'), (1, 'another')):
        with pytest.raises(Failed):
            expect_told(Outcome(code, text, 0.0), 1, 'a word')
    expect_told(Outcome(1, 'error: a word', 0.0), 1, 'a word')
    with pytest.raises(Failed, match='a traceback: ValueError'):
        checked(Outcome(1, 'Traceback (most recent call last):\n  x\nValueError: y', 0.0))


def test_files_that_are_left_over_are_a_failure(tmp_path):
    check_no_drafts(tmp_path)
    (tmp_path / '.iter_3.pth.0a.tmp').touch()
    with pytest.raises(Failed, match='left over'):
        check_no_drafts(tmp_path)


def test_the_table_of_a_page_is_replaced(tmp_path, monkeypatch):
    for language in ('en', 'ko'):
        page = tmp_path / 'docs' / language / 'reliability.md'
        page.parent.mkdir(parents=True)
        page.write_text(f'before\n{report.BEGIN}\nold\n{report.END}\nafter\n', 'utf-8')
    monkeypatch.setattr(report, 'ROOT', tmp_path)
    result = Result(Row('F01', 'a kill', '강제 종료', 1, 0, lambda attempt: None))
    result.add({'verdict': 'survived', 'number': 0, 'seconds': 1.0, 'reason': ''})
    report.write_docs([result], 1.0, 1.5)
    text = page.read_text('utf-8')
    assert 'before\n' in text and '\nafter' in text and 'old' not in text and '강제 종료' in text
    assert re.search(r'\| F01 \| 강제 종료 \| +1/1 \| +0 \|', text)


def test_help_needs_no_torch():
    code = "import sys; from benchmarks.faults.__main__ import parse_args; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_the_pages_list_every_row():
    for language in ('en', 'ko'):
        text = (ROOT / 'docs' / language / 'reliability.md').read_text('utf-8')
        rows = re.findall(r'^\| (F\d+) \| .* \| (\d+)/(\d+) \| (\d+) \|$', text, re.M)
        assert [row[0] for row in rows] == sorted(ROWS)
        assert all(survived == tried and silent == '0' for _, survived, tried, silent in rows)
