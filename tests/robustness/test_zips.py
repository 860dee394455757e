"""Zips from outside: damaged, forged or written on Korean Windows."""

import os
import struct
import time
import zipfile

import pytest

from kovilt.datasets import zip_files
from kovilt.datasets.folders import list_folders
from kovilt.datasets.image_store import IMAGE_SUFFIXES, index_by_folder
from kovilt.datasets.members import open_container
from kovilt.datasets.zip_files import zip_members
from kovilt.errors import KoviltError
from tests.support.memory_limit import memory_limit


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def members_of(path, kind='image'):
    return [member for _, member in zip_members(str(path), (*IMAGE_SUFFIXES, '.json'), kind)]


def refusal(call, *args, naming):
    """The one line with which a call refuses its input, at once and in little memory."""
    start = time.monotonic()
    with pytest.raises(KoviltError) as caught, memory_limit(40):
        call(*args)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert '\n' not in message and all(name in message for name in naming)
    return message


@pytest.mark.parametrize('kind', ['image', 'labels'])
def test_a_member_that_inflates_a_thousandfold_is_refused_by_the_directory(tmp_path, kind):
    path = make_zip(tmp_path / 'x.zip', {'a.json': bytes(40_000_000)})
    assert 'to 40,000,000 bytes; files of this kind' in refusal(members_of, path, kind, naming=['x.zip', 'a.json'])
    forge_size(path, 4_000_000_000)
    assert 'to 4,000,000,000 bytes' in refusal(members_of, path, kind, naming=['x.zip', 'a.json'])


def forge_size(path, size):
    content = path.read_bytes()
    entry = content.rindex(b'PK\x01\x02')
    path.write_bytes(content[: entry + 24] + struct.pack('<I', size) + content[entry + 28 :])


def test_a_member_inflates_to_the_size_of_the_directory_and_no_further(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': bytes(60_000_000)})
    forge_size(path, 100)
    (member,) = members_of(path)
    assert 'wrong size or checksum' in refusal(member.read_bytes, naming=['x.zip', 'a.jpg'])
    with member.open() as stream:
        assert 'wrong size or checksum' in refusal(stream.read, naming=['x.zip', 'a.jpg'])


@pytest.mark.parametrize('kind', ['image', 'labels'])
def test_a_member_is_no_larger_than_files_of_its_kind(tmp_path, kind, monkeypatch):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': os.urandom(1000)})
    monkeypatch.setitem(zip_files.MAX_BYTES, kind, 999)
    assert f'files of this kind ({kind}) may have 999' in refusal(members_of, path, kind, naming=['x.zip', 'a.jpg'])


def test_a_member_that_ends_early_is_damaged(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': os.urandom(1000)})
    forge_size(path, 2000)
    assert 'wrong size' in refusal(members_of(path)[0].read_bytes, naming=['x.zip', 'a.jpg'])


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_flipped_bytes_are_noticed(tmp_path, method):
    content = os.urandom(2000) + bytes(20_000)
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': content}, method)
    original = path.read_bytes()
    for place in range(0, len(original), 67):
        path.write_bytes(original[:place] + bytes([original[place] ^ 255]) + original[place + 1 :])
        open_container.cache_clear()
        try:
            found = [member.read_bytes() for member in members_of(path)]
        except KoviltError as error:
            assert '\n' not in str(error)
        else:
            assert found in ([content], [])  # the name, the time, the name of the other header


@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_named(tmp_path, method):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': b'image'}, method)
    assert 'compressed in an unsupported way; extract the zip' in refusal(members_of, path, naming=['x.zip', 'a.jpg'])


def test_encrypted_members_are_named(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'a.json': b'{}'})
    content = bytearray(path.read_bytes())
    content[content.rindex(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(content)
    assert 'is encrypted' in refusal(members_of, path, 'labels', naming=['x.zip', 'a.json'])


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / 'x.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.jpg', b'one')
        archive.writestr('a.jpg', b'two')
    assert '2 members are called a.jpg' in refusal(members_of, path, naming=['x.zip'])


def test_members_that_share_their_bytes_are_refused(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': b'one' * 100, 'b.jpg': b'two' * 100})
    content = bytearray(path.read_bytes())
    at = content.rindex(b'PK\x01\x02') + 42
    content[at : at + 4] = bytes(4)  # b.jpg begins where a.jpg does
    path.write_bytes(content)
    assert 'reaches into another member' in refusal(members_of, path, naming=['x.zip'])


def test_a_zip_of_too_many_members_is_refused(tmp_path, monkeypatch):
    path = make_zip(tmp_path / 'x.zip', {f'{number}.jpg': b'' for number in range(50)})
    monkeypatch.setattr(zip_files, '_MAX_MEMBERS', 49)
    assert 'more than 49 members' in refusal(members_of, path, naming=['x.zip'])
    monkeypatch.setattr(zip_files, '_MAX_MEMBERS', 50)
    assert len(members_of(path)) == 50


def test_a_directory_of_gigabytes_is_refused(tmp_path):
    path = tmp_path / 'x.zip'
    end = struct.pack('<4sHHHHIIH', b'PK\x05\x06', 0, 0, 65535, 65535, 1 << 31, 0, 0)
    with open(path, 'wb') as file:  # sparse
        file.truncate(1 << 31)
        file.seek(0, os.SEEK_END)
        file.write(end)
    assert 'its directory has 2,147,483,648 bytes' in refusal(members_of, path, naming=['x.zip'])


@pytest.mark.parametrize('content', [b'', b'PK', b'no zip', b'PK\x05\x06' + bytes(17), b'PK\x05\x06' + b'\xff' * 18])
def test_what_is_no_zip_is_named(tmp_path, content):
    (tmp_path / 'x.zip').write_bytes(content)
    assert 'not a zip that can be read' in refusal(members_of, tmp_path / 'x.zip', naming=['x.zip'])


def test_a_zip_that_is_gone_or_exchanged_is_named(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': b'image', 'b.jpg': b'image'})
    first, second = members_of(path)
    path.unlink()
    assert 'x.zip: no such file' in refusal(first.read_bytes, naming=['x.zip'])
    path.mkdir()
    assert 'x.zip: is a folder' in refusal(second.read_bytes, naming=['x.zip'])


@pytest.mark.parametrize('make', [os.mkfifo, lambda path: path.symlink_to('/dev/zero')])
def test_a_pipe_called_zip_does_not_hang(tmp_path, make):
    make(tmp_path / 'x.zip')
    assert 'no regular file' in refusal(
        index_by_folder, list(list_folders(tmp_path, allow_outside=True)), naming=['x.zip']
    )


# Names


def zip_with_raw_names(path, names):
    """A zip whose names have these bytes and no UTF-8 flag."""
    placeholders = [f'<{number}>'.ljust(len(name), 'x') for number, name in enumerate(names)]
    make_zip(path, dict.fromkeys(placeholders, b'image'))
    content = path.read_bytes()
    for placeholder, name in zip(placeholders, names, strict=True):
        content = content.replace(placeholder.encode(), name)
    path.write_bytes(content)
    return path


BOTH = [chr(code) for code in range(0xAC00, 0xD7A4) if zip_files._can_decode(chr(code).encode('cp949'), 'utf-8')]


def test_a_zip_has_one_encoding(tmp_path):
    """The CP949 bytes of 345 syllables are valid UTF-8: they are read as the other names of the zip are."""
    assert len(BOTH) == 345 and '책' in BOTH
    names = [f'{syllable}/{number:04}.jpg' for number, syllable in enumerate([*BOTH, '음식'])]
    path = zip_with_raw_names(tmp_path / 'x.zip', [name.encode('cp949') for name in names])
    assert [member.name for member in members_of(path)] == names
    path = zip_with_raw_names(tmp_path / 'y.zip', [name.encode('utf-8') for name in names])
    assert [member.name for member in members_of(path)] == names


@pytest.mark.parametrize('encoding', ['cp949', 'utf-8'])
@pytest.mark.parametrize('name', ['책/0001.jpg', '음식/고양이.jpg', '한글 ①/ㅋ.jpg', 'plain/a.jpg', '漢字.jpg'])
def test_a_zip_with_one_name(tmp_path, encoding, name):
    path = zip_with_raw_names(tmp_path / 'x.zip', [name.encode(encoding)])
    assert [member.name for member in members_of(path)] == [name]


def test_names_that_no_encoding_fits_are_still_read(tmp_path):
    names = ['음식/a.jpg'.encode('cp949'), b'\xff\xff\xff/b.jpg']
    members = members_of(zip_with_raw_names(tmp_path / 'x.zip', names))
    assert members[0].name == '음식/a.jpg' and members[1].name.endswith('/b.jpg')


def test_flagged_names_and_backslashes(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'음식\\고양이.jpg': b'1', '책.jpg': b'2'})
    assert [member.name for member in members_of(path)] == ['음식/고양이.jpg', '책.jpg']
