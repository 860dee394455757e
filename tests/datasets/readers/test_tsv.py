"""TSV files of VLMEvalKit: images in base64, answers by letter."""

import base64
import csv

import pytest

from kovilt.datasets import TSVReader
from kovilt.datasets.base64_files import Base64Image, find_base64
from kovilt.errors import KoviltError

COLUMNS = ['index', 'image', 'question', 'hint', 'A', 'B', 'C', 'D', 'answer', 'category', 'split']


@pytest.fixture
def images(data):
    contents = [data.image(f'{number}.png', seed=number).read_bytes() for number in range(3)]
    return [base64.b64encode(content).decode() for content in contents]


def rows_of(images):
    questions = ['무슨 색?', '탁자 "위"에\n뭐가 있어요?', '가운데는?', '왼쪽은?']
    shown = [images[0], images[1], '10', images[2]]  # the third row has the image of the first
    return [
        [10 + row, shown[row], questions[row], '', '공', '탁자', '의자', '' if row else '컵', 'BACB'[row], '색', 'dev']
        for row in range(4)
    ]


def write(data, rows, name='MMBench_DEV_KO.tsv', columns=COLUMNS, quoting=csv.QUOTE_ALL, encoding='utf-8'):
    with (data.root / name).open('w', encoding=encoding, newline='') as file:
        csv.writer(file, delimiter='\t', quoting=quoting, lineterminator='\n').writerows([columns, *rows])
    return data.root / name


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
@pytest.mark.parametrize('quoting', [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_a_benchmark(data, images, quoting, encoding):
    path = write(data, rows_of(images), quoting=quoting, encoding=encoding)
    dataset = data.open(TSVReader, 'val')
    assert len(dataset) == 4 and dataset.num_images == 3
    found = {record['question_id']: record for record in map(dataset.record, range(4))}
    assert {key: record['answer'] for key, record in found.items()} == {
        '10': '탁자', '11': '공', '12': '의자', '13': '탁자'
    }  # fmt: skip
    assert found['11']['question'] == '탁자 "위"에 뭐가 있어요?' and found['11']['answer_type'] == '색'
    assert found['12']['image'] == found['10']['image'] and found['10']['image'].startswith(f'{path}/line 2, bytes ')
    samples = dataset.__getitems__(list(range(4)))
    assert all(sample['image']['grid'] == (2, 3) for sample in samples)
    place = dataset.image_store[0]
    assert isinstance(place, Base64Image) and base64.b64encode(place.read_bytes()).decode() in images
    assert find_base64(place.container, place.name).read_bytes() == place.read_bytes()
    assert find_base64(place.container, 'image[3]/a.png') is None


def test_an_image_of_more_than_a_cell_of_csv_may_have(data, images):
    padded = base64.b64encode(base64.b64decode(images[0]) + bytes(200_000)).decode()
    write(data, [[1, padded, '뭐?', '', '공', '탁자', '', '', 'A', '', '']], 'a.tsv')
    dataset = data.open(TSVReader)
    assert dataset[0]['image']['grid'] == (2, 3) and dataset.record(0)['answer'] == '공'


def test_paths_in_place_of_images(data, images):
    columns = [name if name != 'image' else 'image_path' for name in COLUMNS]
    write(
        data, [[row, f'{row}.png', '뭐?', '', '공', '탁자', '', '', 'A', '', ''] for row in range(3)], columns=columns
    )
    dataset = data.open(TSVReader, 'val')
    assert dataset.num_images == 3 and all(
        sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__([0, 1, 2])
    )


def bad(images):
    usual = rows_of(images)

    def with_row(**changed):
        return [[changed.get(name, value) for name, value in zip(COLUMNS, usual[0], strict=True)], *usual[1:]]

    return {
        'two images': (with_row(image=f"['{images[0]}', '{images[1]}']"), "line 2: 2 images in 'image'"),
        'no such row': (with_row(image='99'), "line 2: 'image' is 99, but no row of that index has an image"),
        'wrong letter': (with_row(answer='E'), "line 2: 'answer' is 'E', none of the 4 options"),
        'cells': ([usual[0][:-1], *usual[1:]], 'line 2: 10 cells, but 11 columns'),
        'outside': (with_row(image='../a.png'), "line 2: the path '../a.png' leads out of"),
    }


@pytest.mark.parametrize('name', ['two images', 'no such row', 'wrong letter', 'cells', 'outside'])
def test_bad_rows_are_one_line_with_their_place(data, images, name):
    rows, message = bad(images)[name]
    write(data, rows)
    with pytest.raises(KoviltError, match=message) as error:
        data.open(TSVReader, 'val')
    assert '\n' not in str(error.value)


TEXTS = {
    'index\tquestion\tanswer\n1\t뭐?\t공\n': "line 1: no column 'image' among 'index', 'question', 'answer'",
    'image\tquestion\tanswer\na.png\t"뭐?\t공\n': r'line 2: a quote \("\) opens a cell and does not close it',
    'image\tquestion\tanswer\na.png\t"뭐?"요\t공\n': r'line 2: text behind the quote \("\) that closes a cell',
    'image\tquestion\timage\n': "two columns are called 'image'",
    '': 'the file is empty',
}


@pytest.mark.parametrize('text, message', TEXTS.items(), ids=range(len(TEXTS)))
def test_malformed_files(data, text, message):
    data.write('a.tsv', text)
    with pytest.raises(KoviltError, match=f'a.tsv.*{message}'):
        data.open(TSVReader)
    data.root.joinpath('a.tsv').write_bytes('image\tquestion\tanswer\n1.png\t무슨\t예\n'.encode('cp949'))
    with pytest.raises(KoviltError, match='a.tsv, line 2: not UTF-8 text but CP949'):
        data.open(TSVReader)


def test_damaged_base64_is_a_broken_image(data, images):
    rows = rows_of(images)
    rows[1][1] = images[1][:-8] + '=' + images[1][-7:]
    write(data, rows)
    dataset = data.open(TSVReader, 'val', max_broken_fraction=1.0)
    assert len(dataset.__getitems__([0, 1, 2, 3])) == 3
    (broken,) = dataset.broken_images()
    with pytest.raises(KoviltError, match='damaged base64 of .* download the file again'):
        find_base64(*broken.split('/line ', 1)[:1], 'line ' + broken.split('/line ', 1)[1]).read_bytes()
