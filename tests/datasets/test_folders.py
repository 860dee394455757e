"""Finding the files of a data set beneath its folder, and no others."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kovilt.datasets import folders
from kovilt.datasets.folders import check_data_root, list_folders, locate, normalize_path, where_instead
from kovilt.errors import KoviltError, nearest


def refusal(call, *args, **options):
    """The one line with which a call refuses its input."""
    with pytest.raises(KoviltError) as caught:
        call(*args, **options)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_parts_of_a_download_are_refused_until_joined(tmp_path):
    for number in (0, 1):
        (tmp_path / f'[라벨]음식.zip.part{number}').write_bytes(b'x')
    with pytest.raises(KoviltError, match=r"part0: a part of a download; join .*'.*\[라벨\]음식\.zip'"):
        list(list_folders(tmp_path))
    (tmp_path / '[라벨]음식.zip').write_bytes(b'xx')
    assert len(list(list_folders(tmp_path))) == 1


def test_the_advised_command_joins_parts_in_natural_order(tmp_path):
    for number in (0, 1, 2, 10):
        (tmp_path / f'a b.zip.part{number}').write_text(f'{number};')
    with pytest.raises(KoviltError) as error:
        list(list_folders(tmp_path))
    command = str(error.value).partition('first: ')[2]
    assert os.system(command) == 0
    assert (tmp_path / 'a b.zip').read_text() == '0;1;2;10;'


@pytest.fixture
def outside(tmp_path):
    """A folder beside the data."""
    (tmp_path / 'outside').mkdir()
    (tmp_path / 'outside' / 'a.jpg').write_bytes(b'x')
    return tmp_path / 'outside'


@pytest.fixture
def data(tmp_path):
    (tmp_path / 'data' / 'inside').mkdir(parents=True)
    (tmp_path / 'data' / 'inside' / 'b.jpg').write_bytes(b'x')
    return tmp_path / 'data'


def test_circles_of_links_end(data):
    (data / 'inside' / 'circle').symlink_to(data)
    (data / 'loop').symlink_to('loop')
    (data / 'z').symlink_to('inside')
    found = list(list_folders(data))
    assert [folder.parts for folder in found] == [(), ('inside',)]
    assert found[0].files == ['loop'] and found[1].files == ['b.jpg']


@pytest.mark.parametrize('target', ['outside', 'outside/a.jpg', 'nowhere'])
def test_links_that_lead_out_are_followed_only_when_allowed(data, outside, target):
    (data / 'inside' / 'link').symlink_to(data.parent / target)
    message = refusal(lambda: list(list_folders(data)))
    assert message.startswith(f'{data}/inside/link: leads to {data.parent / target}, which is outside {data}')
    assert 'set allow_outside=True' in message
    found = list(list_folders(data, allow_outside=True))
    assert len(found) == (3 if target == 'outside' else 2)


def test_the_root_itself_may_be_a_link(data, tmp_path):
    (tmp_path / 'link').symlink_to(data)
    (data / 'c.jpg').symlink_to(data / 'inside' / 'b.jpg')
    assert [folder.path for folder in list_folders(tmp_path / 'link')] == [
        f'{tmp_path}/link',
        f'{tmp_path}/link/inside',
    ]


def test_a_folder_of_everything_is_refused(data, monkeypatch):
    assert 'more than 50 folders within each other' in refusal(lambda: list(list_folders(deep(data, 52))))
    monkeypatch.setattr(folders, '_MAX_FILES', 2)
    for name in 'abc':
        (data / name).touch()
    assert f'{data}: more than 2 files, in {data}; give the folder' in refusal(lambda: list(list_folders(data)))


def deep(root, levels):
    (root / '/'.join('d' * levels)).mkdir(parents=True)
    return root


def test_usr_is_not_listed(data):
    (data / 'usr').symlink_to('/usr')
    assert 'leads to /usr' in refusal(lambda: list(list_folders(data)))


# Paths in rows


BAD_PATHS = {
    '../a.jpg': 'leads out',
    '..\\a.jpg': 'leads out',
    'inside/../../a.jpg': 'leads out',
    'inside\\..\\..\\a.jpg': 'leads out',
    '..': 'leads out',
    '/etc/passwd': 'leads out',
    '\\\\server\\share\\a.jpg': 'leads out',
    'C:\\a.jpg': 'has a drive letter',
    'C:/a.jpg': 'has a drive letter',
    'c:a.jpg': 'has a drive letter',
    'file:///etc/passwd': 'is a URL',
    'http://b.kr/a.jpg': 'is a URL',
    's3://bucket/a.jpg': 'is a URL',
    'HTTPS://b.kr/a.jpg': 'is a URL',
    'a\0.jpg': 'holds a control character',
    'a\n.jpg': 'holds a control character',
    '\x1b[2Ja.jpg': 'holds a control character',
    '\ud800.jpg': 'holds a control character',
    'x' * 256: 'longer than file systems allow',
    '한' * 86: 'longer than file systems allow',
    'a/' * 2100 + 'a': 'longer than file systems allow',
}


@pytest.mark.parametrize('path', BAD_PATHS)
def test_paths_that_lead_elsewhere_are_refused(data, path):
    for call in (normalize_path, locate):
        args = (path, data) if call is normalize_path else (data, path)
        assert BAD_PATHS[path] in refusal(call, *args)
        if BAD_PATHS[path] != 'leads out':
            assert BAD_PATHS[path] in refusal(call, *args, allow_outside=True)


@pytest.mark.parametrize('path', ['a.jpg', './a.jpg', 'x/../a.jpg', '.\\a.jpg', 'x\\..\\a.jpg', 'a//../a.jpg'])
def test_paths_beneath_the_root(data, path):
    assert normalize_path(path, data) == 'a.jpg'
    assert locate(data, path) == data / 'a.jpg'


@pytest.mark.parametrize('path', ['음식/고양이.jpg', '...a/..b.jpg', 'a b.jpg', '~/a.jpg', '한' * 85, '질문?.jpg'])
def test_unusual_names_stay(data, path):
    assert normalize_path(path, data) == path
    assert normalize_path(unicodedata.normalize('NFD', path)[:80], data)


def test_outside_paths_can_be_allowed(data, outside):
    assert locate(data, '/x/a.jpg', allow_outside=True).as_posix() == '/x/a.jpg'
    assert locate(data, '../outside/a.jpg', allow_outside=True).is_file()


def test_a_link_on_the_path_does_not_lead_out(data, outside):
    (data / 'link').symlink_to(outside)
    (data / 'a.jpg').symlink_to(outside / 'a.jpg')
    for path in ('link/a.jpg', 'a.jpg', 'link/missing.jpg'):
        assert f'which is outside {data}' in refusal(locate, data, path)
        locate(data, path, allow_outside=True)


@given(path=st.text(st.sampled_from('./\\a~:\0한\ud800')))
def test_no_path_leads_out(path, tmp_path_factory):
    root = tmp_path_factory.getbasetemp()
    try:
        place = locate(root, path)
    except KoviltError as error:
        assert '\n' not in str(error)
    else:
        assert os.path.commonpath([os.path.realpath(root), os.path.realpath(place)]) == os.path.realpath(root)


# What a message says


def test_wrong_data_roots_are_told_apart(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'file.jsonl').touch()
    for name, reason in {
        'data': 'an empty folder. Put files there',
        'date': "no such folder (did you mean 'data'?). Put files there",
        'file.jsonl': 'a file, not a folder; give the folder that holds it',
        'file.jsonl/x': 'a file, not a folder',
        'a\0': 'cannot be read (embedded null byte)',
        'x' * 300: 'cannot be read (File name too long)',
    }.items():
        place = tmp_path / name
        assert refusal(check_data_root, place, 'Put files there').startswith(f'data_root {place}: {reason}')
    (tmp_path / 'data' / 'a').touch()
    assert check_data_root(str(tmp_path / 'data')) == tmp_path / 'data'


def test_another_split_is_never_proposed(data):
    names = ['train.jsonl', 'train.csv']
    for other in ('val.jsonl', 'test.jsonl', 'dev.csv', 'validation.jsonl'):
        (data / other).touch()
    assert where_instead(names, list(list_folders(data))) == ''
    (data / 'tarin.jsonl').touch()
    assert where_instead(names, list(list_folders(data))) == " (did you mean 'tarin.jsonl'?)"
    (data / 'inside' / 'train.csv').touch()
    assert where_instead(names, list(list_folders(data))) == (
        f'; train.csv lies in {data}/inside, give that as data_root'
    )
    assert not nearest('v2_questions_train2014.json', ['v2_questions_val2014.json'])
    assert 'train2015' in nearest(
        'v2_questions_train2014.json', ['v2_questions_val2014.json', 'v2_questions_train2015.json']
    )
    assert not nearest('train_dataloader', ['val_dataloader']) and nearest('val_dataloadr', ['val_dataloader'])
