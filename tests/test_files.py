"""Files are whole or absent, and belong to whoever the umask says."""

import hashlib
import multiprocessing
import os
import stat
import subprocess
import sys
import uuid

import pytest

from kovilt.errors import KoviltError
from kovilt.files import atomic_folder, atomic_path, file_sha256, read_json, write_json, write_json_lines, write_text


def test_what_is_written_is_read_back(tmp_path):
    value = {'답': ['소파', 1, None], 'nested': {'a': 0.5}}
    write_json(tmp_path / 'new' / 'a.json', value)
    assert read_json(tmp_path / 'new' / 'a.json') == value
    assert '소파' in (tmp_path / 'new' / 'a.json').read_text('utf-8')
    write_json_lines(tmp_path / 'a.jsonl', [{'질문': '무엇?'}, {}])
    assert (tmp_path / 'a.jsonl').read_text('utf-8') == '{"질문": "무엇?"}\n{}\n'


def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path):
    write_text(tmp_path / 'a.txt', 'old')
    with pytest.raises(RuntimeError, match='stop'), atomic_path(tmp_path / 'a.txt') as draft:
        draft.write_text('half')
        raise RuntimeError('stop')
    with pytest.raises(TypeError):
        write_json_lines(tmp_path / 'a.txt', [{'a': 1}, {'a': object()}])
    assert [path.name for path in tmp_path.iterdir()] == ['a.txt']
    assert (tmp_path / 'a.txt').read_text() == 'old'


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    for content in ('old', 'new'):
        with atomic_folder(tmp_path / 'a') as draft:
            (draft / content).touch()
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['new']
    with pytest.raises(KoviltError, match=r'a: cannot be written \(No space left.*; choose another place'):
        with atomic_folder(tmp_path / 'a') as draft:
            (draft / 'half').touch()
            raise OSError(28, 'No space left on device')
    assert [path.name for path in tmp_path.iterdir()] == ['a'] and (tmp_path / 'a' / 'new').is_file()


WRITE = """
import os, signal, sys
from kovilt.files import atomic_folder, atomic_path
kind = atomic_folder if sys.argv[2] == 'folder' else atomic_path
with kind(sys.argv[1]) as draft:
    (draft / 'half' if sys.argv[2] == 'folder' else draft).write_text('half')
    print(draft.name, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_what_a_killed_process_leaves_is_removed_and_what_a_living_one_writes_is_not(tmp_path, monkeypatch, kind):
    process = subprocess.Popen(
        [sys.executable, '-c', WRITE, str(tmp_path / 'a'), kind], stdout=subprocess.PIPE, text=True
    )
    draft = tmp_path / process.stdout.readline().strip()
    try:
        monkeypatch.setattr('kovilt.drafts._searched', set())
        write_text(tmp_path / 'b', '')
        assert draft.exists()
    finally:
        process.kill()
        process.wait()
    write_text(tmp_path / 'b', '')  # folders are searched once
    assert draft.exists()
    monkeypatch.setattr('kovilt.drafts._searched', set())
    other = draft.rename(draft.with_name(draft.name.replace(f'{uuid.getnode():012x}', '0' * 12)))  # another machine's
    own = tmp_path / f'.own.{uuid.getnode():012x}{"0" * 20}.tmp'
    own.mkdir()
    write_text(tmp_path / 'b', '')
    assert {path.name for path in tmp_path.iterdir()} == {'b', other.name}


@pytest.mark.parametrize('has_exchange', [True, False])
def test_a_folder_is_replaced_with_and_without_an_exchange_of_names(tmp_path, monkeypatch, has_exchange):
    if not has_exchange:
        monkeypatch.setattr('kovilt.drafts.ctypes.CDLL', lambda name: object())
    for name in ('old', 'new'):
        with atomic_folder(tmp_path / 'a') as draft:
            (draft / name).touch()
    assert [path.name for path in tmp_path.rglob('*')] == ['a', 'new']


@pytest.mark.parametrize('mask, mode', [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_are_those_of_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / 'a.txt', '')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'a.txt').stat().st_mode) == mode


@pytest.mark.parametrize('content', [b'', b'{"a": 1', b'\xff\xfe', b'[1]', b'"a"'])
def test_what_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(
        KoviltError,
        match=r'a\.json(, line 1, column \d+: (the file is empty|expecting)|: (holds a JSON|not UTF-8 text))',
    ):
        read_json(tmp_path / 'a.json')
    with pytest.raises(KoviltError, match=r'b\.json: no such file'):
        read_json(tmp_path / 'b.json')


def test_a_byte_order_mark_is_passed_over_and_digests_are_of_the_bytes(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / 'a.json') == {'a': 1}
    assert file_sha256(tmp_path / 'a.json', 'JSON') == hashlib.sha256(b'\xef\xbb\xbf{"a": 1}').hexdigest()


def test_a_name_that_is_not_utf_8_can_be_written(tmp_path):
    write_text(tmp_path / 'a.txt', 'a\udcff')
    assert (tmp_path / 'a.txt').read_text('utf-8') == r'a\udcff'


def test_two_processes_that_write_one_file_leave_it_whole_at_every_moment(tmp_path):
    path, fork = tmp_path / 'metrics.json', multiprocessing.get_context('fork')

    def write_often(number: int) -> None:
        for _ in range(20):
            write_json(path, {'values': [number] * 20_000})

    write_often(0)
    processes = [fork.Process(target=write_often, args=(number,)) for number in (1, 2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert len(set(read_json(path)['values'])) == 1
    assert [process.exitcode for process in processes] == [0, 0] and os.listdir(tmp_path) == ['metrics.json']
