import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kovilt.datasets.image_store import IMAGE_SUFFIXES, ImageIndex, ImageStore
from kovilt.datasets.table import map_table, write_table
from kovilt.datasets.zip_files import ZipMember, zip_members
from kovilt.errors import KoviltError


def zip_images(path):
    return zip_members(path, IMAGE_SUFFIXES, 'image')


def make_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize('compression', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_is_read_without_the_zip_module(tmp_path, compression):
    contents = {'음식/a.jpg': b'a' * 5000, '음식/b.JPG': os.urandom(300), '설명.txt': b'no image', 'c.png': b''}
    found = dict(zip_images(str(make_zip(tmp_path / 'x.zip', contents, compression))))
    members = [member for _, member in zip_images(str(tmp_path / 'x.zip'))]
    assert {member.name: member.read_bytes() for member in members} == {
        k: v for k, v in contents.items() if 'txt' not in k
    }
    assert set(found) == {('음식',), ()}


def test_a_damaged_member_is_named(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': b'image' * 100})
    ((_, member),) = zip_images(str(path))
    path.write_bytes(path.read_bytes().replace(b'imageimage', b'pictUreimage', 1))
    with pytest.raises(KoviltError, match=r'x.zip/a.jpg: .*checksum'):
        member.read_bytes()
    with pytest.raises(KoviltError, match='the zip has changed'):
        member._replace(start=7).read_bytes()


def test_names_in_cp949_are_decoded(tmp_path):
    """Korean Windows sets no UTF-8 flag; a member is written here with the bytes it would have."""
    path = tmp_path / 'x.zip'
    placeholder = 'x' * len('음식/고양이.jpg'.encode('cp949'))
    make_zip(path, {placeholder[:-4] + '.jpg': b'image'})
    path.write_bytes(path.read_bytes().replace(placeholder[:-4].encode(), '음식/고양이'.encode('cp949')))
    ((folders, member),) = zip_images(str(path))
    assert (folders, member.name, member.read_bytes()) == (('음식',), '음식/고양이.jpg', b'image')


def test_a_zip_cut_off_is_named(tmp_path):
    path = make_zip(tmp_path / 'x.zip', {'a.jpg': b'image' * 100})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(KoviltError, match=r'x\.zip: not a zip that can be read'):
        list(zip_images(str(path)))


def test_images_are_found_by_category_or_else_by_name():
    index = ImageIndex()
    for number, path in enumerate(('/d/음식/a.jpg', '/d/동물/a.jpg', '/d/동물/b.jpg')):
        index.add('개인', Path(path).parent.name, Path(path))
        assert len(index) == number + 1
    index.add('노인', '음식', Path('/e/음식/c.jpg'))
    index.add('개인', '음식', Path('/again/음식/a.jpg'))  # the first is kept

    def find(groups, category, file):
        number = index.find(groups, category, file)
        return None if number is None else str(index[number])

    assert find(['개인'], '동물', 'a.jpg') == '/d/동물/a.jpg'
    assert find(['개인'], '식물', 'b.jpg') == '/d/동물/b.jpg'
    assert find(['개인'], '식물', 'a.jpg') is None  # two bear the name
    assert find(['개인'], '음식', 'c.jpg') is None
    assert find(['개인', '노인'], '', 'c.jpg') == '/e/음식/c.jpg'


def test_names_are_compared_after_composing():
    index = ImageIndex()
    on_disk = unicodedata.normalize('NFD', '/d/음식/고양이.jpg')
    index.add('', '음식', Path(on_disk))
    assert str(index[index.find([''], unicodedata.normalize('NFD', '음식'), '고양이.jpg')]) == on_disk


def test_a_store_gives_back_every_kind_of_place():
    store = ImageStore()
    places = [Path('/d/음식/a.jpg'), ZipMember('/d/x.zip', '음식/b.jpg', 10, 20, 30, 8, 2**32 - 1), None]
    for place in places:
        store.append(place, '음식/c.jpg')
    store.freeze()
    assert [store[number] for number in range(3)] == places
    assert [store.name(number) for number in range(3)] == ['/d/음식/a.jpg', '/d/x.zip/음식/b.jpg', '음식/c.jpg']


def test_a_store_can_be_mapped_from_a_file(tmp_path):
    make_zip(tmp_path / 'x.zip', {'음식/a.jpg': b'image'})
    ((_, member),) = zip_images(str(tmp_path / 'x.zip'))
    store = ImageStore()
    for number, (place, name) in enumerate(((tmp_path / 'b.jpg', ''), (member, ''), (None, '없음.jpg'))):
        store.append(place, name, 10 + number)
    write_table(tmp_path / 'images.arrow', store.freeze().take(np.array([2, 1, 0])).table)
    again = ImageStore(map_table(tmp_path / 'images.arrow'))
    assert [again[number] for number in range(3)] == [None, member, tmp_path / 'b.jpg']
    assert again.image_ids.tolist() == [12, 11, 10]
    assert again.name(0) == '없음.jpg' and again.absent().tolist() == [0]
    assert again.is_absent(0) and not again.is_absent(1)
