from __future__ import annotations

import pytest

from kovilt.engine.work_dir import WorkDirBefore, check_writable
from kovilt.errors import KoviltError


def test_checking_a_folder_creates_nothing(tmp_path):
    check_writable(tmp_path / 'new' / 'work')
    assert not list(tmp_path.iterdir())
    (tmp_path / 'file').touch()
    with pytest.raises(KoviltError, match='cannot write there .*; choose another with --work-dir'):
        check_writable(tmp_path / 'file' / 'work')


def test_a_new_work_folder_goes_with_its_new_parents(tmp_path):
    before = WorkDirBefore(tmp_path / 'a' / 'b' / 'work')
    (tmp_path / 'a' / 'b' / 'work' / 'log').mkdir(parents=True)
    (tmp_path / 'a' / 'other').touch()
    before.restore(tmp_path / 'a' / 'b' / 'work' / 'log')
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['other']


def test_an_older_work_folder_loses_the_log_alone(tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'iter_1.pth').touch()
    before = WorkDirBefore(tmp_path / 'work')
    (tmp_path / 'work' / 'log').mkdir()
    before.restore(tmp_path / 'work' / 'log')
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['iter_1.pth']
