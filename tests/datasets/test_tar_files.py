"""Images in tars, read by their offset, and shards of webdataset."""

import io
import json
import shutil
import tarfile

import pytest

from kovilt.datasets import KVQAReader, WebDatasetQuestionReader, WebDatasetReader
from kovilt.datasets.folders import list_folders
from kovilt.datasets.recognition import find_data_sets
from kovilt.datasets.tar_files import TarMember, extract_command, find_compressed, tar_members
from kovilt.errors import KoviltError


def write_tar(path, members, mode='w', **options):
    """`members`: name -> bytes, or a TarInfo of something else than a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info is not content:
                info.size = len(content)
            tar.addfile(info, None if info is content else io.BytesIO(content))
    return path


def link(name, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, '/etc/passwd'
    return info


def listed(path):
    return [member for _, member in tar_members(str(path), ('.png', '.jpg'), 'image')]


@pytest.fixture
def image(data):
    file = data.image('a.png')
    content = file.read_bytes()
    file.unlink()
    return content


@pytest.mark.parametrize('format', [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_by_their_offset(tmp_path, format):
    contents = {f'이미지/{"가" * 20}{number}.png': bytes([number]) * (700 * number) for number in range(1, 5)}
    path = write_tar(tmp_path / 'a.tar', contents | {'README.txt': b'x'}, format=format)
    found = listed(path)
    assert {member.name: member.read_bytes() for member in found} == contents
    assert all(isinstance(member, TarMember) and str(member) == f'{path}/{member.name}' for member in found)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(KoviltError, match='the tar has changed or is damaged'):
        TarMember(*found[-1]).read_bytes()


def test_names_of_korean_windows(tmp_path):
    path = write_tar(tmp_path / 'a.tar', {'사진.png': b'x'}, encoding='cp949', format=tarfile.GNU_FORMAT)
    assert [member.name for member in listed(path)] == ['사진.png']


BAD = {
    'up': ({'../a.png': b'x'}, "member '../a.png' leads out of the tar"),
    'absolute': ({'/etc/a.png': b'x'}, "member '/etc/a.png' leads out of the tar"),
    'link': ({'a.png': link('a.png')}, "member 'a.png' is a link; extract the tar"),
    'hard link': ({'a.png': link('a.png', tarfile.LNKTYPE)}, "member 'a.png' is a link"),
    'pipe': ({'a.png': link('a.png', tarfile.FIFOTYPE)}, "member 'a.png' is no plain file"),
    'twice': ({'a.png': b'x', './a.png': b'y'}, "two members are called 'a.png'"),
}


@pytest.mark.parametrize('members, message', BAD.values(), ids=list(BAD))
def test_members_that_are_refused(tmp_path, members, message):
    with pytest.raises(KoviltError, match=message):
        listed(write_tar(tmp_path / 'a.tar', members))


def test_damaged_tars(tmp_path):
    path = write_tar(tmp_path / 'a.tar', {f'{number}.png': bytes(3000) for number in range(4)})
    content = path.read_bytes()
    for damaged in (content[:9000], content[:5000], content[:3600] + b'x' * 100 + content[3700:], b'', b'x' * 2000):
        path.write_bytes(damaged)
        with pytest.raises(KoviltError, match='a.tar: (ends within|not a tar that can be read)') as error:
            listed(path)
        assert '\n' not in str(error.value)


def test_a_header_of_any_size_is_not_read(tmp_path):
    info = tarfile.TarInfo('././@LongLink')
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    path = tmp_path / 'a.tar'
    with path.open('wb') as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 31)
    with pytest.raises(KoviltError, match='a header of 1,073,741,824 bytes'):
        listed(path)


def test_a_compressed_tar_is_one_line_with_the_command(tmp_path):
    path = write_tar(tmp_path / '내 images.tar.gz', {'a.png': b'x'}, 'w:gz')
    assert find_compressed(list_folders(tmp_path)) == str(path)
    assert extract_command(str(path)) == f"tar -xf '{path}' -C {tmp_path}"
    renamed = shutil.copy(path, tmp_path / 'b.tar')
    with pytest.raises(KoviltError, match=f'it is compressed: tar -xf {renamed} -C {tmp_path}'):
        listed(renamed)


def test_kvqa_with_its_images_in_a_tar(data, image):
    rows = [
        {'image': f'KVQA_{number}.png', 'question': '뭐예요?', 'answers': [{'answer': '공'}] * 10}
        for number in range(4)
    ]
    data.write('KVQA_annotations_train.json', rows)
    path = write_tar(data.root / 'images.tar.gz', {f'KVQA_{number}.png': image for number in range(4)}, 'w:gz')
    with pytest.raises(KoviltError, match='4 of 4 images are absent.*images.tar.gz is not extracted: tar -xf .*/data$'):
        data.open(KVQAReader)
    path.unlink()
    write_tar(data.root / 'images.tar', {f'images/KVQA_{number}.png': image for number in range(4)})
    dataset = data.open(KVQAReader)
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(list(range(4))))
    assert dataset.record(0)['image'] == f'{data.root}/images.tar/images/KVQA_0.png'


def pairs(image, numbers, *, text=lambda number: f'방 안에 공이 {number}개 있다.'):
    return {
        name: content
        for number in numbers
        for name, content in (
            (f'{number:05d}.png', image + bytes([number])),
            (f'{number:05d}.txt', text(number).encode()),
            (f'{number:05d}.json', json.dumps({'key': number, 'caption': text(number), 'width': 48}).encode()),
        )
    }


def test_webdataset_shards(data, image):
    write_tar(data.root / '00000.tar', pairs(image, range(5)))
    write_tar(data.root / '00001.tar', pairs(image, range(5, 8)))  # shards need not be of one length
    texts = [
        data.open(WebDatasetReader, split, image_pipeline=[]).record(row)['text']
        for split, count in (('train', 8),)
        for row in range(count)
    ]
    assert texts == [f'방 안에 공이 {number}개 있다.' for number in range(8)]
    dataset = data.open(WebDatasetReader)
    assert len({sample['image_id'] for sample in dataset.__getitems__(list(range(8)))}) == 8


def test_captions_of_json_and_named_splits(data, image):
    def members(caption):
        return {'a/1.jpg': image, 'a/1.json': json.dumps(caption).encode()}

    write_tar(data.root / 'train-0.tar', members({'caption': 'a ball', 'caption_ko': '공 하나'}))
    write_tar(data.root / 'val-0.tar', members({'captions': ['공', '탁자 위의 공']}))
    assert data.open(WebDatasetReader).record(0)['text'] == '공 하나'
    assert len(data.open(WebDatasetReader, 'val')) == 2


def test_one_pair_in_a_hundred_is_the_validation_split(data, image):
    write_tar(data.root / '0.tar', pairs(image, range(200)))
    splits = [data.open(WebDatasetReader, split, image_pipeline=[]) for split in ('train', 'val')]
    train, val = ({dataset.record(row)['text'] for row in range(len(dataset))} for dataset in splits)
    assert not train & val and len(train) + len(val) == 200 and 0 < len(val) < 10


def test_pairs_that_lack_something_are_counted(data, image):
    members = pairs(image, range(5))
    del members['00001.png'], members['00002.txt'], members['00002.json']
    write_tar(data.root / '0.tar', members)
    dataset = data.open(WebDatasetReader)
    assert len(dataset) == 3
    assert dataset.left_out == {'a caption without an image': 1, 'an image without a caption': 1}


@pytest.mark.parametrize(
    'members, message',
    [
        ({'1.png': b'x', '1.jpg': b'y', '1.txt': '공'.encode()}, '0.tar/1: 2 images of one name'),
        ({'1.png': b'x', '1.txt': '공'.encode('cp949')}, '0.tar/1.txt: not UTF-8 text but CP949'),
        ({'1.png': b'x', '1.json': b'{"caption": '}, '0.tar/1.json, line 1, column 13'),
        ({'1.png': b'x', '1.json': b'{"caption": 3}'}, "0.tar/1.json: its caption is no text, '3'"),
        ({'1.png': b'x', '1.txt': b'x' * (2 << 20)}, '0.tar/1.txt: a text of 2,097,152 bytes'),
    ],
)
def test_bad_pairs_are_one_line_with_their_place(data, members, message):
    write_tar(data.root / '0.tar', members)
    with pytest.raises(KoviltError, match=message) as error:
        data.open(WebDatasetReader)
    assert '\n' not in str(error.value)


def test_a_tar_of_images_is_no_shard(data, image):
    write_tar(data.root / 'images.tar', {'1.png': image})
    with pytest.raises(KoviltError, match="no shard of split 'train'"):
        data.open(WebDatasetReader)


def question_shard(image, numbers, *, several=False, **more):
    """Shards as webdataset writes them: 00003.png and 00003.json."""
    members = {}
    for number in numbers:
        row = {'question': f'공이 {number}개예요?', 'answer': ['예', '아니요'][number % 2]} | more
        members[f'{number:05d}.png'] = image + bytes([number])
        content = [row, row | {'question': '소파는 무슨 색?', 'answer': '빨간색'}] if several else row
        members[f'{number:05d}.json'] = json.dumps(content).encode()
    return members


@pytest.mark.parametrize('several', [False, True])
def test_shards_of_questions(data, image, several):
    write_tar(data.root / 'train' / '0.tar', question_shard(image, range(3), several=several))
    write_tar(data.root / 'train' / '1.tar', question_shard(image, range(3, 5), several=several))
    write_tar(data.root / 'val' / '0.tar', question_shard(image, range(2)))
    assert find_data_sets(data.root) == {WebDatasetQuestionReader: {'train', 'val'}}
    train, val = (data.open(WebDatasetQuestionReader, split) for split in ('train', 'val'))
    rows = 10 if several else 5
    assert len(train) == rows and train.num_images == 5 and len(val) == 2
    assert not {*train.image_store.image_ids} & {*val.image_store.image_ids}
    found = [train.record(row) for row in range(rows)]
    assert [record['question_id'] for record in found] == [str(number) for number in range(rows)]
    assert (found[0]['question'], found[0]['answer']) == ('공이 0개예요?', '예')
    assert found[-1]['image'] == f'{data.root}/train/1.tar/00004.png'
    assert {sample['image']['grid'] for sample in train.__getitems__(list(range(rows)))} == {(2, 3)}


def test_rows_of_shards_are_those_of_tables(data, image):
    options = {'options': ['예', '아니요'], 'answer': 1, 'question_id': 'q', 'answer_type': '존재'}
    write_tar(data.root / '0.tar', question_shard(image, range(4), **options))
    splits = [data.open(WebDatasetQuestionReader, split, files={'val_share': 0.25}) for split in ('train', 'val')]
    assert list(map(len, splits)) == [3, 1]
    record = splits[0].record(0)
    assert [record[name] for name in ('answer', 'question_id', 'answer_type')] == ['아니요', 'q', '존재']
    renamed = json.dumps({'질문': '뭐?', '정답': '공'}).encode()
    write_tar(data.root / '0.tar', {'00000.png': image, '00000.json': renamed})
    assert find_data_sets(data.root) == {WebDatasetQuestionReader: {'train'}}
    with pytest.raises(KoviltError, match='0.tar/00000: .*--columns question=질문 answer=정답 takes them'):
        data.open(WebDatasetQuestionReader)
    columns = {'question': '질문', 'answer': '정답'}
    assert data.open(WebDatasetQuestionReader, files={'columns': columns}).record(0)['question'] == '뭐?'


@pytest.mark.parametrize('key', ['caption', 'text'])
def test_shards_of_captions_beside_something_of_a_question_are_captions(data, image, key):
    write_tar(data.root / '0.tar', {'1.png': image, '1.json': json.dumps({key: '공', 'prompt': 'a ball'}).encode()})
    assert find_data_sets(data.root) == {WebDatasetReader: {'train', 'val'}}


@pytest.mark.parametrize(
    'members, message',
    [
        (
            {'1.png': b'x', '1.jpg': b'y', '1.json': b'{"question": "?", "answer": "a"}'},
            '0.tar/1: 2 images of one name',
        ),
        ({'1.png': b'x', '1.json': b'{"question": '}, '0.tar/1.json, line 1, column 14'),
        ({'1.png': b'x', '1.json': b'{"question": "?"}'}, "0.tar/1: no key 'answer' among 'question'"),
        ({'1.png': b'x', '1.json': b'{"question": 3, "answer": "a"}'}, "0.tar/1: 'question' is the number 3"),
        ({'1.png': b'x', '1.json': b'[null]'}, "0.tar/1: expecting an object, found 'None'"),
        ({'1.png': b'x', '1.txt': b'x'}, '0.tar/1: no .json with a question beside this image'),
        ({'1.json': b'{"question": "?", "answer": "a"}'}, '1 of 1 images are absent, e.g. .*0.tar/1'),
        ({'1.png': b'x', '1.json': '{"question": "공"}'.encode('cp949')}, '0.tar/1.json: not UTF-8 text but CP949'),
    ],
)
def test_bad_questions_are_one_line_with_their_place(data, members, message):
    write_tar(data.root / 'train-0.tar', members)
    with pytest.raises(KoviltError, match=message) as error:
        data.open(WebDatasetQuestionReader, files={'files': 'train-0.tar'})
    assert '\n' not in str(error.value)
