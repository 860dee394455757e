from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from kovilt.engine.work_dir import WorkDirBefore, check_writable, create_log_dir, lock_work_dir
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


def test_without_a_log_folder_only_empty_folders_are_removed(tmp_path):
    for name in ('empty', 'used'):
        before = WorkDirBefore(tmp_path / 'new' / name)
        (tmp_path / 'new' / name).mkdir(parents=True)
        if name == 'used':
            (tmp_path / 'new' / name / 'run.lock').touch()
        before.restore(None)
    assert {path.name for path in tmp_path.rglob('*')} == {'new', 'used', 'run.lock'}


def test_an_older_work_folder_loses_the_log_alone(tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'iter_1.pth').touch()
    before = WorkDirBefore(tmp_path / 'work')
    (tmp_path / 'work' / 'log').mkdir()
    before.restore(tmp_path / 'work' / 'log')
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['iter_1.pth']


HOLD = """
import sys, time
from kovilt.engine.work_dir import lock_work_dir
with lock_work_dir(sys.argv[1], resume=False):
    print('held', flush=True)
    time.sleep(60)
"""


def test_a_folder_belongs_to_one_run_until_its_process_ends(tmp_path):
    process = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == 'held\n'
        with pytest.raises(KoviltError, match=rf'a run is going on there \(process {process.pid} on .*--work-dir'):
            with lock_work_dir(tmp_path, resume=True):
                pass
    finally:
        process.kill()
        process.wait()
    with lock_work_dir(tmp_path, resume=False):
        pass


def test_a_disk_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr('fcntl.lockf', refuse)
    with pytest.raises(KoviltError, match='cannot be locked .*; choose a folder on another disk'):
        with lock_work_dir(tmp_path, resume=False):
            pass


def test_runs_of_the_same_second_have_log_folders_of_their_own(tmp_path):
    names = [create_log_dir(tmp_path, '20261129_180000') for _ in range(3)]
    assert names == ['20261129_180000', '20261129_180000_2', '20261129_180000_3']
    assert create_log_dir(tmp_path, '20261129_180000', number=2) == '20261129_180000_4'
    assert create_log_dir(tmp_path, '20261129_180001', number=2) == '20261129_180001_2'
    assert len([*tmp_path.iterdir()]) == 5


@pytest.mark.parametrize('name', ['metrics.jsonl', 'iter_3.pth', 'epoch_1.pth', 'best_accuracy_iter_5.pth'])
def test_a_new_run_does_not_mix_with_an_earlier_one(tmp_path, name):
    (tmp_path / name).write_text('{}')
    with pytest.raises(KoviltError, match=rf'holds an earlier run \({name}\); continue that one with --resume'):
        with lock_work_dir(tmp_path, resume=False):
            pass
    with lock_work_dir(tmp_path, resume=True):
        pass
