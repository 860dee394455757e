import base64
import csv
import json
import shutil
import unicodedata

import pytest

from kovilt.datasets import PlainReader, QuestionDataset
from kovilt.errors import KoviltError

ROWS = [
    {'image': f'images/{number % 4}.png', 'question': f'소파 위에 {number}', 'answer': ['예', '아니요'][number % 2]}
    for number in range(10)
]


@pytest.fixture
def plain(data):
    for number in range(4):
        data.image(f'images/{number}.png', seed=number)
    return data


def write_jsonl(data, rows: list[dict], name: str = 'train.jsonl') -> None:
    data.write(name, ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows))


def write_csv(data, rows: list[dict], name: str = 'train.csv', encoding: str = 'utf-8') -> None:
    with open(data.root / name, 'w', encoding=encoding, newline='') as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def open_(data, split='train', **options) -> QuestionDataset:
    return data.open(PlainReader, split, **options)


def content(dataset) -> list[dict]:
    records = [dataset.record(row) for row in range(len(dataset))]
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(len(dataset))))
    return sorted(({**record, 'row': None} for record in records), key=lambda record: record['question'])


def expected(data, first_line: int) -> list[dict]:
    return [
        {
            'row': None,
            'image': str(data.root / row['image']),
            'split': 'train',
            'question': row['question'],
            'question_id': str(first_line + number),
            'answer': row['answer'],
            'answer_type': '',
        }
        for number, row in enumerate(ROWS)
    ]


def test_jsonl(plain):
    write_jsonl(plain, ROWS)
    assert content(open_(plain)) == expected(plain, 1)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_csv(plain, encoding):
    write_csv(plain, ROWS, encoding=encoding)
    assert content(open_(plain)) == expected(plain, 2)


def test_cells_with_commas_quotes_and_lines(plain):
    row = {'image': 'images/0.png', 'question': '소파, "의자"\n어디?', 'answer': '탁자, 공'}
    write_csv(plain, [row, *ROWS])
    assert open_(plain).record(0)['question'] == '소파, "의자" 어디?' and open_(plain).record(0)['answer'] == '탁자, 공'


def test_ids_and_types_in_the_table(plain):
    rows = [{**row, 'question_id': number, 'answer_type': '존재'} for number, row in enumerate(ROWS)]
    for write in (write_jsonl, write_csv):
        write(plain, rows)
        records = content(open_(plain))
        assert [record['question_id'] for record in records] == [str(number) for number in range(10)]
        assert {record['answer_type'] for record in records} == {'존재'}
        (plain.root / 'train.jsonl').unlink(missing_ok=True)


def test_several_answers(plain):
    several = {'image': 'images/0.png', 'question': '가', 'answers': ['예', '네', '네']}
    write_jsonl(plain, [several, {**several, 'answers': [{'answer': '예'}]}])
    first, second = content(open_(plain))
    assert first['answers'] == ['예', '네', '네'] and first['answer'] == '네'
    assert second['answer'] == '예' and 'answers' not in second
    (plain.root / 'train.jsonl').unlink()
    write_csv(plain, [{**several, 'answers': '예 | 네|네'}, {**several, 'answers': ''}])
    dataset = open_(plain)
    assert content(dataset)[0]['answers'] == ['예', '네', '네'] and dataset.left_out == {'no answer': 1}


def test_blank_lines_are_skipped(plain):
    plain.write('train.jsonl', '\n' + json.dumps(ROWS[0]) + '\n\n' + json.dumps(ROWS[1]) + '\n \n')
    assert [open_(plain).record(row)['question_id'] for row in range(2)] == ['2', '4']


@pytest.mark.parametrize('zipped', ['images.zip', 'all.zip'])
def test_images_in_zips_have_the_paths_of_extracted_ones(plain, zipped):
    if zipped == 'all.zip':
        (plain.root / 'images').rename(plain.root / 'inside')
        (plain.root / 'images').mkdir()
        (plain.root / 'inside').rename(plain.root / 'images' / 'images')
    plain.zip(zipped, 'images')
    write_jsonl(plain, ROWS)
    dataset = open_(plain)
    assert len(content(dataset)) == 10 and f'/{zipped}/' in dataset.record(0)['image']


def test_images_may_lie_elsewhere(plain, tmp_path):
    image = plain.image(str(tmp_path / 'elsewhere' / 'a.png'))
    write_jsonl(plain, [{**ROWS[0], 'image': str(image)}, {**ROWS[1], 'image': '../elsewhere/a.png'}])
    assert len(content(open_(plain, files={'allow_outside': True}))) == 2
    with pytest.raises(KoviltError, match=r"train.jsonl, line 1: the path '/.*' leads out of .*allow_outside=True"):
        open_(plain)


@pytest.mark.parametrize('path', ['../elsewhere/a.png', '..\\elsewhere\\a.png', 'C:\\a.png', 'file:///a', 'x' * 300])
def test_a_path_that_leads_elsewhere_is_a_fault_of_its_row(plain, tmp_path, path):
    plain.image(str(tmp_path / 'elsewhere' / 'a.png'))
    write_jsonl(plain, [ROWS[0], {**ROWS[1], 'image': path}])
    with pytest.raises(KoviltError, match=r'train\.jsonl, line 2: the path [^\n]*$'):
        open_(plain)


@pytest.mark.parametrize('linked', ['images', 'images/0.png'])
def test_links_out_of_the_folder_need_permission(plain, tmp_path, linked):
    write_jsonl(plain, ROWS)
    (plain.root / linked).rename(tmp_path / 'elsewhere')
    (plain.root / linked).symlink_to(tmp_path / 'elsewhere')
    assert len(content(open_(plain, files={'allow_outside': True}))) == len(ROWS)
    with pytest.raises(KoviltError, match=rf'{linked}: leads to {tmp_path}/elsewhere, which is outside'):
        open_(plain)


def spelled(rows, how):
    """JSONL as programs write base64: plain, as pandas (\\/), or with line breaks (\\n) as of MIME."""
    if how == 'lines':
        rows = [{**row, 'image': base64.encodebytes(base64.b64decode(row['image'])).decode()} for row in rows]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    return [line.replace('/', '\\/') for line in lines] if how == 'pandas' else lines


@pytest.mark.parametrize('how', ['plain', 'uri', 'pandas', 'lines'])
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_images_in_base64(plain, how, mark):
    contents = [(plain.root / f'images/{number}.png').read_bytes() for number in range(4)]
    shutil.rmtree(plain.root / 'images')
    rows = [{**row, 'image': base64.b64encode(contents[place % 4]).decode()} for place, row in enumerate(ROWS)]
    if how == 'uri':
        rows = [{**row, 'image': f'data:image/png;base64,{row["image"]}'} for row in rows]
    rows = [{'메모': '"가" \\ 나', **row} for row in rows]  # before it in the line: letters of several bytes, quotes
    path = plain.write('train.jsonl', mark + '\n'.join(['', *spelled(rows, how)]) + '\n')
    dataset = open_(plain)
    assert len(dataset) == 10 and dataset.num_images == 4
    records = [dataset.record(row) for row in range(10)]
    assert {record['image'].split(',')[0] for record in records} == {f'{path}/line {line}' for line in range(2, 6)}
    assert {dataset.image_store[number].read_bytes() for number in range(4)} == set(contents)
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(10)))


def test_damaged_base64_is_a_broken_image_and_csv_has_none(plain):
    text = base64.b64encode((plain.root / 'images/0.png').read_bytes()).decode()
    write_jsonl(plain, [*ROWS, {**ROWS[0], 'image': text[:-9] + '*' + text[-8:]}])
    dataset = open_(plain, max_broken_fraction=1.0)
    assert len(dataset.__getitems__(range(11))) == 10
    (broken,) = dataset.broken_images()
    assert f'{plain.root}/train.jsonl/line 11, bytes ' in broken
    with pytest.raises(KoviltError, match='line 11, bytes .*: damaged base64 of .*; download the file again'):
        dataset.image_store[4].read_bytes()
    (plain.root / 'train.jsonl').unlink()
    write_csv(plain, [{**ROWS[0], 'image': text[:300]}])
    with pytest.raises(KoviltError, match=r"train\.csv, line 2: 'image' is base64, which JSONL, TSV"):
        open_(plain)


def test_the_table_of_another_split_or_folder(plain, tmp_path):
    write_jsonl(plain, ROWS)
    with pytest.raises(KoviltError, match=r'neither val.jsonl nor val.csv\. Put'):
        open_(plain, 'val')
    plain.root = plain.root.parent
    with pytest.raises(KoviltError, match=r'neither train.jsonl nor train.csv; train.jsonl lies in .*/data, give that'):
        open_(plain)


def test_paths_of_windows_and_decomposed_names(plain):
    plain.image(unicodedata.normalize('NFD', 'images/고양이/가.png'))
    write_jsonl(plain, [{**ROWS[0], 'image': 'images\\고양이\\가.png'}, {**ROWS[0], 'image': './images/0.png'}])
    assert len(content(open_(plain))) == 2


def test_an_image_of_the_same_name_in_another_folder_is_not_taken(plain):
    write_jsonl(plain, [*ROWS, {**ROWS[0], 'image': 'others/0.png'}])
    with pytest.raises(KoviltError, match='1 of 5 images are absent, e.g. others/0.png'):
        open_(plain)


def test_an_image_whose_name_differs_in_case_is_hinted(plain):
    write_jsonl(plain, [*ROWS, {**ROWS[0], 'image': 'images/0.PNG'}])
    with pytest.raises(KoviltError, match=r"1 of 5 images are absent, e.g. images/0.PNG; there is '0.png'"):
        open_(plain)


def test_splits_are_files(plain):
    write_jsonl(plain, ROWS)
    write_csv(plain, ROWS[:3], 'dev.csv')
    assert len(open_(plain, 'dev', test_mode=True)) == 3
    with pytest.raises(KoviltError, match='neither val.jsonl nor val.csv.*Put train.jsonl and val.jsonl'):
        open_(plain, 'val')
    with pytest.raises(KoviltError, match=r"neither trein.jsonl nor trein.csv \(did you mean 'train.jsonl'\?\)"):
        open_(plain, 'trein')
    write_csv(plain, ROWS)
    with pytest.raises(KoviltError, match='both train.jsonl and train.csv; keep one of them'):
        open_(plain)


def test_the_csv_of_bok_vqa(plain):
    """Without a name for the index, images of 21 digits, English answers, cells with a line break."""
    name = f'{"123456789012345678901"}.jpg'
    plain.image(name)
    text = (
        ',img_name,question,h,r,t,answer,fold\n'
        f'0,{name},누가\u00a0썼어요?,소파,위치,거실,Kim Gu,1\n1,{name},"소파는\n무슨 색?",소파,색,red,Red,2\n'
    )
    plain.write('train.csv', text)
    with pytest.raises(
        KoviltError, match=r"no column 'image' \(rename 'img_name'\).*--columns image=img_name takes them"
    ):
        open_(plain)
    records = content(open_(plain, files=dict(columns={'image': 'img_name'}, answer_map='71357')))
    assert [(row['question'], row['answer']) for row in records] == [
        ('누가 썼어요?', 'Kim Gu'),
        ('소파는 무슨 색?', '빨간색'),
    ]


ROW = '{"image": "images/0.png", "question": "가", "answer": "예"}\n'


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('train.jsonl', ROW + '{"image": \n',
         'train.jsonl, line 2, column 10: expecting value.*; write one object in each line'),
        ('train.jsonl', f'[{ROW[:-1]}]', 'train.jsonl, line 1: expecting an object'),
        ('train.jsonl', '[' * 100_000, 'train.jsonl, line 1, column 101: nested deeper'),
        ('train.jsonl', ROW + ROW.replace('"image"', '"imgae"'),
         r"train.jsonl, line 2: no 'image' in this row \(did you mean 'imgae'\?\)"),
        ('train.jsonl', ROW.replace('images/0.png', ''), "line 1: 'image' is empty"),
        ('train.jsonl', ROW.replace('"question"', '"q"'), "line 1: no key 'question' among 'image', 'q', 'answer'"),
        ('train.jsonl', ROW.replace('answer', 'anwser'),
         r"line 1: no key 'answer' \(did you mean 'anwser'\?\) among"),
        ('train.jsonl', ROW.replace('"예"', '["예", "네"]'), "line 1: 'answer' is .*; several are called 'answers'"),
        ('train.jsonl', ROW.replace('answer', 'answers'), "line 1: 'answers' is not a list, but '예'"),
        ('train.csv', 'image,question\nimages/0.png,가\n',
         "train.csv, line 1: no column 'answer' among 'image', 'question'"),
        ('train.csv', 'image,question,answer\nimages/0.png,가,나,다\n',
         'train.csv, line 2: 4 cells, but 3 columns; a cell with a comma'),
        ('train.csv', 'image,question,answer\nimages/0.png\n', 'train.csv, line 2: 1 cells, but 3 columns'),
        ('train.csv', 'image,question,answer\nimages/0.png,가,예\n"images/0.png,가\n\n\n', 'csv, line 3: not CSV'),
        ('train.csv', '', "no rows of split 'train'"),
    ],
)  # fmt: skip
def test_malformed_tables_are_reported_with_their_place(plain, name, text, message):
    plain.write(name, text)
    with pytest.raises(KoviltError, match=message) as error:
        open_(plain)
    assert '\n' not in str(error.value)


def test_the_encoding_of_korean_windows_is_reported(plain):
    write_csv(plain, ROWS, encoding='cp949')
    with pytest.raises(KoviltError, match='train.csv, line 2: not UTF-8 text .*Excel: "CSV UTF-8"'):
        open_(plain)


def rows_of(dataset) -> set[tuple[str, str]]:
    records = [dataset.record(row) for row in range(len(dataset))]
    return {(record['image'], record['question']) for record in records}


@pytest.mark.parametrize('write', [write_jsonl, write_csv])
def test_without_a_validation_table_whole_images_are_kept_for_it(plain, write):
    write(plain, ROWS)
    splits = {
        (split, seed): rows_of(open_(plain, split, files=dict(val_share=0.3, val_seed=seed)))
        for split in ('train', 'val')
        for seed in range(8)
    }
    for seed in range(8):
        train, val = splits['train', seed], splits['val', seed]
        assert len(train | val) == len(ROWS) and len({image for image, _ in val}) == 1
        assert not {image for image, _ in train} & {image for image, _ in val}
    assert len({frozenset(splits['val', seed]) for seed in range(8)}) > 1
    moved = {**ROWS[0], 'question': '새 질문'}
    write(plain, [moved, *ROWS[::-1]])
    again = rows_of(open_(plain, 'val', files=dict(val_share=0.3)))
    assert {image for image, _ in again} == {image for image, _ in splits['val', 0]}


def test_a_share_of_the_images_is_not_taken_where_there_is_a_validation_table(plain):
    write_jsonl(plain, ROWS)
    write_csv(plain, ROWS, 'val.csv')
    with pytest.raises(KoviltError, match=r'val\.csv is the validation split; leave out val_share'):
        open_(plain, 'val', files=dict(val_share=0.3))


def test_one_image_cannot_be_divided(plain):
    write_jsonl(plain, ROWS[:1])
    with pytest.raises(KoviltError, match='1 images in train, none can be kept for validation'):
        open_(plain, 'val', files=dict(val_share=0.3))


def test_weights_in_cells(plain):
    row = {'image': 'images/0.png', 'question': '가', 'answers': '예|네', 'answer_weights': '0.75|0.25'}
    whole = {**row, 'answers': '{"예": 0.75, "네": 0.25}', 'answer_weights': ''}
    write_csv(plain, [row, whole, {**row, 'answer_weights': ''}])
    first, second, third = content(open_(plain))
    for record in (first, second):
        assert (record['answers'], record['answer_weights']) == (['예', '네'], [0.75, 0.25])
    assert third['answers'] == ['예', '네'] and 'answer_weights' not in third
    write_csv(plain, [row, {**row, 'answer_weights': '0.5|2'}])
    with pytest.raises(KoviltError, match="train.csv, line 3: 'answers' gives '네' the weight '2.0'; give a number"):
        open_(plain)
