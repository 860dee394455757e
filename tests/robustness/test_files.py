"""One gate for files from outside: regular files of a fitting size pass, everything else is one line, at once."""

import os
import socket
import unicodedata
from pathlib import Path

import pytest

from kovilt.errors import KoviltError
from kovilt.files import MAX_BYTES, check_file, file_sha256, open_file, read_bytes, read_json, read_text

KINDS = list(MAX_BYTES)


def refusal(call, *args):
    """The one line with which a call refuses its input."""
    with pytest.raises(KoviltError) as caught:
        call(*args)
    message = str(caught.value)
    assert '\n' not in message
    return message


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    there = os.getcwd()
    os.chdir(path.parent)  # the path of a socket may have only 108 characters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(there)


def make_device(path):
    path.symlink_to('/dev/zero')


def make_loop(path):
    path.symlink_to(path.name)


def make_dangling_link(path):
    path.symlink_to('nowhere')


NOT_REGULAR = {
    make_pipe: 'no regular file but a pipe',
    make_socket: 'no regular file but a socket',
    make_device: 'no regular file but a device',
    make_loop: 'cannot be read (Too many levels of symbolic links)',
    make_dangling_link: 'a link to nowhere, which does not exist',
    Path.mkdir: 'is a folder',
}


@pytest.mark.parametrize('make, reason', NOT_REGULAR.items(), ids=lambda value: getattr(value, '__name__', ''))
@pytest.mark.parametrize('kind', KINDS)
def test_only_regular_files_pass(tmp_path, make, reason, kind):
    make(tmp_path / 'a')
    for call in (open_file, check_file, read_bytes, read_text, file_sha256):
        assert refusal(call, tmp_path / 'a', kind).startswith(f'{tmp_path / "a"}: {reason}')
    (tmp_path / 'link').symlink_to('a')
    refusal(open_file, tmp_path / 'link', kind)


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_has_at_most_the_bytes_of_its_kind(tmp_path, kind):
    with open(tmp_path / 'a', 'wb') as file:  # sparse: it takes no place
        file.truncate(MAX_BYTES[kind])
    open_file(tmp_path / 'a', kind).close()
    os.truncate(tmp_path / 'a', MAX_BYTES[kind] + 1)
    for call in (open_file, check_file, read_bytes, file_sha256):
        assert f'{MAX_BYTES[kind] + 1:,} bytes, but files of this kind ({kind})' in refusal(call, tmp_path / 'a', kind)


def test_three_gigabytes_of_nothing_are_refused_before_they_are_read(tmp_path):
    with open(tmp_path / 'a', 'wb') as file:
        file.truncate(3 << 30)
    assert [kind for kind in KINDS if MAX_BYTES[kind] > 3 << 30] == ['weights', 'zip', 'prepared']  # none is read whole
    assert '3,221,225,472 bytes' in refusal(read_json, tmp_path / 'a')


@pytest.mark.parametrize('name', ['a\0b', '\ud800', 'x' * 256, 'a/' * 3000, '한' * 90, 'file/b'])
def test_a_name_that_no_file_can_have(tmp_path, name):
    (tmp_path / 'file').touch()
    assert 'cannot be read (' in refusal(open_file, f'{tmp_path}/{name}', 'image')


def test_a_file_of_proc_has_no_size(tmp_path):
    assert 'grows while it is read' in refusal(read_bytes, '/proc/self/maps', 'JSON')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every file')
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / 'a').touch(0)
    assert 'cannot be read (Permission denied)' in refusal(open_file, tmp_path / 'a', 'image')


@pytest.mark.parametrize(
    'wanted, there',
    [('a.jpg', 'A.JPG'), (unicodedata.normalize('NFC', '사진'), unicodedata.normalize('NFD', '사진'))],
)
def test_a_name_of_other_case_or_composition_is_hinted(tmp_path, wanted, there):
    (tmp_path / there).touch()
    assert f'no such file; there is {there!r}' in refusal(open_file, tmp_path / wanted, 'image')
    (tmp_path / there).rename(tmp_path / 'other')
    assert refusal(open_file, tmp_path / wanted, 'image').endswith('no such file')


def test_text_without_its_mark(tmp_path):
    (tmp_path / 'a').write_bytes('\ufeff소파'.encode())
    assert read_text(tmp_path / 'a', 'table') == '소파'
    (tmp_path / 'a').write_bytes('소파'.encode('cp949'))
    assert 'not UTF-8 text but CP949' in refusal(read_text, tmp_path / 'a', 'table')
