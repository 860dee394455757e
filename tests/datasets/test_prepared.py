"""Prepared data gives the same batches as the files it was made from, and reports damage in one line."""

import base64
import json
import os
import pickle
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from kovilt.datasets import (
    AIHubCOCOKoreanReader,
    AIHubLivingReader,
    GlobalBatchSampler,
    ImageGroupSampler,
    LLaVAReader,
    PairDataset,
    ParquetReader,
    PlainReader,
    PreparedReader,
    QuestionDataset,
    TSVReader,
    WebDatasetQuestionReader,
    collate_pairs,
    prepare,
    preparing,
    verify_prepared,
)
from kovilt.datasets.prepared import digest_summary
from kovilt.datasets.prepared_writer import file_entry
from kovilt.datasets.table import map_table, write_table
from kovilt.errors import KoviltError
from kovilt.verification import sources_of_config, verify
from tests.datasets.test_tar_files import write_tar
from tests.support.pair_data import failure

LOAD = [{'type': 'LoadPrepared'}]
VAL = {'split': 'val', 'test_mode': True, 'keep_record': True}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(preparing, 'IMAGES_PER_SHARD', 4)


class Pair:
    """A data set as files and as prepared data, opened with the same options."""

    def __init__(self, data, out: Path, reader: type, kind: type = QuestionDataset, **train) -> None:
        self.data, self.out, self.reader, self.kind, self.train = data, out, reader, kind, train

    def config(self, **options) -> dict:
        reader = {
            'type': self.reader.__name__,
            'data_root': str(self.data.root),
            'split': options.pop('split', 'train'),
        }
        return {'type': self.kind.__name__, 'reader': reader, **self.data.pipelines, **options}

    def prepare(self, *, val: bool = True, **options) -> dict:
        configs = {'train': self.config(**self.train)} | ({'val': self.config(**VAL)} if val else {})
        return prepare(self.out, configs, **options).summary

    def open(self, **options):
        """Both of them, for training unless `options` change that."""
        options = dict(options or self.train)
        split = options.pop('split', 'train')
        answers = {'answers': str(self.out / 'answers.json')} if 'answers' in options else {}
        files = self.data.open(self.reader, split, **options)
        ours = {**self.data.pipelines, 'image_pipeline': LOAD, **options, **answers}
        return files, self.kind(reader=PreparedReader(data_root=str(self.out), split=split), **ours)


@pytest.fixture
def living(data, tmp_path) -> Pair:
    data.living(images=10)
    data.living(images=3, split='Validation')
    return Pair(data, tmp_path / 'out', AIHubLivingReader, answers={'min_count': 4})


def loader(dataset, *, epoch: int = 0, shuffle: bool = True, **options) -> DataLoader:
    sampler = ImageGroupSampler(dataset, shuffle=shuffle, seed=5, texts_per_image=2)
    sampler.set_epoch(epoch)
    return DataLoader(dataset, batch_sampler=GlobalBatchSampler(sampler, 4), collate_fn=collate_pairs, **options)


def batches(dataset, **options) -> list[dict]:
    return [batch for parts in loader(dataset, **options) for batch in parts]


def assert_same(files, prepared, **options) -> None:
    expected = batches(files, **options)
    found = batches(prepared, **options)
    assert len(expected) == len(found) and expected
    for one, two in zip(expected, found, strict=True):
        assert one.keys() == two.keys() and one.get('records') == two.get('records')
        for key in one.keys() - {'records'}:
            assert one[key].dtype == two[key].dtype and torch.equal(one[key], two[key]), key


@pytest.mark.parametrize('workers', [0, 2])
def test_training_gets_the_same_batches(living, workers):
    living.prepare()
    files, prepared = living.open()
    assert prepared.metainfo == files.metainfo and len(prepared) == len(files)
    for epoch in (0, 1):
        assert_same(files, prepared, epoch=epoch, num_workers=workers)


def test_the_digest_of_images_is_that_of_their_patches(living, tmp_path):
    living.prepare()
    digest = living.open()[1].digest_images()
    for file in living.data.root.rglob('*.jpg'):  # nobody reads them again
        file.unlink()
    living.out = living.out.rename(tmp_path / 'moved')
    assert (
        living.kind(
            reader=PreparedReader(data_root=str(living.out), split='train'),
            **{**living.data.pipelines, 'image_pipeline': LOAD},
            answers=str(living.out / 'answers.json'),
        ).digest_images()
        == digest
    )
    summary = json.loads((living.out / 'prepared.json').read_text('utf-8'))
    summary['files']['train/shard-00002.patches']['sha256'] = '0' * 64
    (living.out / 'prepared.json').write_text(json.dumps(summary | {'digest': digest_summary(summary)}))
    rows = PreparedReader(data_root=str(living.out), split='train').read_rows()
    assert rows.images.digest(rows.row_images) != digest


def test_evaluation_gets_the_same_batches_and_records(living):
    living.prepare()
    files, prepared = living.open(**VAL)
    assert_same(files, prepared, shuffle=False)
    assert [prepared.record(row) for row in range(len(prepared))] == [files.record(row) for row in range(len(files))]


def test_captions_and_zips(data, tmp_path):
    data.captions(train=6, val=2)
    for folder in ('train2014', 'val2014'):
        data.zip(f'{folder}.zip', folder)
    pair = Pair(data, tmp_path / 'out', AIHubCOCOKoreanReader, PairDataset)
    pair.prepare()
    assert_same(*pair.open())
    assert_same(*pair.open(**VAL), shuffle=False)


def test_the_answers_of_several_people(data, tmp_path):
    answers = [['예'] * 6 + ['네'] * 4, ['네'] * 10, ['파란색', '네']]
    rows = [{'image': 'a.png', 'question': f'소파 {n}', 'answers': given} for n, given in enumerate(answers)]
    data.image('a.png')
    data.write('train.jsonl', '\n'.join(json.dumps(row) for row in rows))
    pair = Pair(data, tmp_path / 'out', PlainReader, answers={'min_count': 1}, target='soft')
    pair.prepare(val=False)
    files, prepared = pair.open()
    assert_same(files, prepared)
    assert [prepared.record(row) for row in range(3)] == [files.record(row) for row in range(3)]


def in_every_format(data, rows: list[dict], contents: list[bytes]) -> dict[str, type]:
    """Writes questions, one about each image, in a folder for each format; its reader."""
    root, kind = data.root, pa.struct([('bytes', pa.binary()), ('path', pa.string())])
    texts = [base64.b64encode(content).decode() for content in contents]
    for name in ('parquet', 'talks', 'tsv', 'shards', 'lines'):
        (root / name).mkdir(parents=True)
    cells = pa.array([{'bytes': content, 'path': None} for content in contents], kind)
    turns = [
        [{'from': 'human', 'value': f'<image>\n{row["question"]}'}, {'from': 'gpt', 'value': row['answer']}]
        for row in rows
    ]
    columns = {key: [row[key] for row in rows] for key in ('question', 'answer')}
    pq.write_table(pa.table({'image': cells, **columns}), root / 'parquet' / 'train.parquet')
    pq.write_table(pa.table({'image': cells, 'conversations': turns}), root / 'talks' / 'train.parquet')
    lines = [f'{text}\t{row["question"]}\t{row["answer"]}' for text, row in zip(texts, rows, strict=True)]
    data.write('tsv/train.tsv', '\n'.join(['image\tquestion\tanswer', *lines]))
    write_tar(
        root / 'shards' / '0.tar',
        {
            f'{n}.{part}': [contents[n], json.dumps(rows[n]).encode()][part == 'json']
            for n in range(4)
            for part in ('png', 'json')
        },
    )
    data.write(
        'lines/train.jsonl', '\n'.join(json.dumps({'image': t} | row) for t, row in zip(texts, rows, strict=True))
    )
    return {
        'parquet': ParquetReader,
        'talks': LLaVAReader,
        'tsv': TSVReader,
        'shards': WebDatasetQuestionReader,
        'lines': PlainReader,
    }


def test_every_format_prepares_to_the_same_data(data, tmp_path):
    contents = [data.image(f'{number}.png', seed=number).read_bytes() for number in range(4)]
    rows = [{'question': f'소파 {number}', 'answer': ['예', '아니요'][number % 2]} for number in range(4)]
    found = {}
    for name, reader in in_every_format(data, rows, contents).items():
        config = {'type': reader.__name__, 'data_root': str(data.root / name), 'split': 'train'}
        prepare(tmp_path / name, {'train': {'type': 'QuestionDataset', 'reader': config, **data.pipelines}})
        ours = {**data.pipelines, 'image_pipeline': LOAD}
        prepared = QuestionDataset(reader=PreparedReader(data_root=str(tmp_path / name), split='train'), **ours)
        samples, records = prepared.__getitems__(range(4)), [prepared.record(row) for row in range(4)]
        found[name] = [
            (record['question'], record['answer'], sample['image']['patches'].tobytes())
            for record, sample in zip(records, samples, strict=True)
        ]
    assert [row[:2] for row in found['parquet']] == [(row['question'], row['answer']) for row in rows]
    assert all(rows == found['parquet'] for rows in found.values())


def test_images_may_stay_in_their_files(living):
    summary = living.prepare(images=False)
    assert not list(living.out.rglob('*.patches')) and summary['splits']['train']['shards'] == 0
    read = {**living.train, 'image_pipeline': living.data.pipelines['image_pipeline']}
    files, prepared = living.open(**read)
    assert_same(files, prepared)
    assert prepared.digest_images() == files.digest_images()
    with pytest.raises(KoviltError, match='prepared with --no-images; instead of LoadPrepared give LoadImage'):
        living.open()


def test_other_programs_read_the_rows_and_images(living):
    """The files are plain Arrow: rows name their image by its number."""
    living.prepare()
    _, prepared = living.open()
    rows, images = (pa.ipc.open_file(living.out / 'train' / f'{name}.arrow').read_all() for name in ('rows', 'images'))
    assert rows.column_names == ['question', 'question_id', 'answer', 'answer_type', 'image']
    assert len(rows) == len(prepared)
    for row, values in enumerate(rows.to_pylist()):
        image = images.slice(values.pop('image'), 1).to_pylist()[0]
        record = prepared.record(row)
        assert values.items() <= record.items()
        assert os.path.join(image['container'], image['name']) == record['image']
        assert image['image_id'] == prepared[row]['image_id'] and tuple(image['grid']) == prepared[row]['image']['grid']


def test_pandas_reads_and_joins_rows_and_images(living):
    living.prepare()
    _, prepared = living.open()
    rows, images = (pandas.read_feather(living.out / 'train' / f'{name}.arrow') for name in ('rows', 'images'))
    records = [prepared.record(row) for row in range(len(prepared))]
    assert list(rows.answer) == [record['answer'] for record in records]
    joined = rows.join(images, on='image')
    assert [os.path.join(*place) for place in zip(joined.container, joined.name, strict=True)] == [
        record['image'] for record in records
    ]


def test_verification_reads_prepared_rows(living):
    living.prepare()
    config = {f'{split}_dataloader': {'dataset': {'type': 'QuestionDataset', 'reader': reader}} for split, reader in (
        (split, {'type': 'PreparedReader', 'data_root': str(living.out), 'split': split}) for split in ('train', 'val')
    )}  # fmt: skip
    report = verify(sources_of_config(config, 'config.py'), deep=True, workers=1, progress=lambda done, total: None)
    assert [(split['rows'], split['images']) for split in report.splits] == [(30, 10), (9, 3)]
    assert report.images['checked'] == 10 + 3
    assert report.findings.counts['leak.image'] == 3  # both splits are made of the same images


def test_prepared_data_can_be_prepared_again(living, tmp_path):
    living.prepare()
    _, prepared = living.open()
    config = living.config(**living.train)
    config['reader'] = {'type': 'PreparedReader', 'data_root': str(living.out), 'split': 'train'}
    config |= {'image_pipeline': LOAD, 'answers': str(living.out / 'answers.json'), 'limit': len(prepared)}
    prepare(tmp_path / 'again', {'train': config})
    living.out = tmp_path / 'again'
    assert_same(*living.open())


def test_broken_and_absent_images_are_treated_as_those_of_files(living):
    files = sorted(living.data.root.rglob('Training/images/**/*.jpg'))
    files[2].write_bytes(files[2].read_bytes()[:200])
    validation = sorted(living.data.root.rglob('Validation/images/**/*.jpg'))
    validation[0].write_text('no image')
    validation[1].unlink()
    living.train['max_broken_fraction'] = 0.2
    assert {name: split['broken'] for name, split in living.prepare()['splits'].items()} == {'train': 1, 'val': 1}
    listed = json.loads((living.out / 'train' / 'broken.jsonl').read_text('utf-8'))
    assert listed['image'] == str(files[2]) and 'not a readable image' in listed['reason']
    assert_same(*living.open())
    ours, prepared = living.open(**VAL)
    assert_same(ours, prepared, shuffle=False)
    records = [record for batch in batches(prepared, shuffle=False) for record in batch['records']]
    assert sum('broken' in record for record in records) == 6 and len(records) == 9
    assert prepared.broken_images() == ours.broken_images()


def test_too_many_broken_images_stop_training(living):
    for file in sorted(living.data.root.rglob('Training/images/**/*.jpg'))[:3]:
        file.write_text('no image')
    living.train['max_broken_fraction'] = 0.5
    living.prepare(val=False)
    message = failure(loader(living.open(**{**living.train, 'max_broken_fraction': 0.2})[1]))
    assert message.startswith('3 of 10 images of ') and f'(found when {living.out} was prepared)' in message


def test_mapped_files_are_not_pickled_for_spawned_workers(living):
    living.prepare()
    files, prepared = living.open()
    assert_same(files, prepared)
    copy = pickle.loads(pickle.dumps(prepared))
    assert len(pickle.dumps(prepared.row_set)) < 3000 and 'patches' not in vars(copy.image_store)
    assert_same(files, copy)


def shards(out: Path) -> list[Path]:
    return sorted(out.glob('train/*.patches'))


def cut_off(out: Path) -> Path:
    shards(out)[1].write_bytes(shards(out)[1].read_bytes()[:-1])
    return shards(out)[1]


def lose(out: Path) -> Path:
    file = shards(out)[2]
    file.unlink()
    return file


def exchange(out: Path) -> Path:
    file, other = shards(out)[:2]
    content = other.read_bytes()
    other.write_bytes(file.read_bytes())
    file.write_bytes(content)
    return file


def cut_rows_off(out: Path) -> Path:
    file = out / 'train' / 'rows.arrow'
    file.write_bytes(file.read_bytes()[:-1])
    return file


def damage_summary(out: Path) -> Path:
    (out / 'prepared.json').write_text('{"format": 1,')
    return out / 'prepared.json'


@pytest.mark.parametrize(
    'damage, reason',
    [
        (cut_off, r'[\d,]+ bytes, but [\d,]+ when it was prepared'),
        (lose, 'no such file'),
        (exchange, 'not a shard of these images'),
        (cut_rows_off, r'[\d,]+ bytes, but'),
        (damage_summary, 'expecting'),
    ],
)
def test_damage_is_reported_in_one_line_with_the_file(living, damage, reason):
    living.prepare(val=False)
    path = damage(living.out)
    with pytest.raises(
        KoviltError, match=rf'^{path}(:|, line 1, column 14:) {reason}.*; copy it again, or prepare again: [^\n]*$'
    ):
        living.open()


def everything(out: Path) -> tuple:
    """All rows and patches of the training split."""
    rows = PreparedReader(data_root=str(out), split='train').read_rows()
    rows.images.check_prepared()
    numbers = range(len(rows.images))
    patches = [rows.images.patches.read(number) for number in numbers if not rows.images.is_absent(number)]
    names = [rows.images.name(number) for number in numbers]
    table = {name: column.to_pylist() for name, column in rows.table.items()}
    return table, names, [(array.tobytes(), grid) for array, grid in patches]


@pytest.mark.parametrize('name', ['train/rows.arrow', 'train/images.arrow', 'prepared.json', 'train/broken.jsonl'])
def test_no_flipped_byte_changes_a_sample(living, name):
    living.prepare(val=False)
    path, expected = living.out / name, everything(living.out)
    original = path.read_bytes()
    assert original or name == 'train/broken.jsonl'
    for place in range(0, len(original), max(1, len(original) // 100)):
        for bits in (0x01, 0xFF):
            path.write_bytes(original[:place] + bytes([original[place] ^ bits]) + original[place + 1 :])
            try:
                found = everything(living.out)
            except KoviltError as error:
                assert '\n' not in str(error)
            else:
                assert found == expected
    path.write_bytes(original + b'{"number": 0, "image": "a", "reason": "x"}\n')
    with pytest.raises(KoviltError, match='prepare'):
        everything(living.out)


@pytest.mark.parametrize('lost', ['answers.json', 'train/rows.arrow', 'train/images.arrow', 'train/broken.jsonl'])
def test_each_file_is_needed_and_listed(living, lost):
    living.prepare(val=False)
    summary = json.loads((living.out / 'prepared.json').read_text('utf-8'))
    del summary['digest']  # which tells of every change
    if lost != 'answers.json':
        (living.out / 'prepared.json').write_text(
            json.dumps({**summary, 'files': {name: file for name, file in summary['files'].items() if name != lost}})
        )
        with pytest.raises(KoviltError, match=rf'prepared\.json: does not list {lost}; copy it again'):
            everything(living.out)
        (living.out / 'prepared.json').write_text(json.dumps(summary))
    (living.out / lost).unlink()
    os.mkfifo(living.out / lost)
    with pytest.raises(KoviltError, match=rf'{lost}: no regular file but a pipe; copy it again'):
        everything(living.out)


def test_verifying_reads_everything(living):
    living.prepare()
    files, size = verify_prepared(living.out)
    assert files == sum(file.is_file() for file in living.out.rglob('*')) - 1  # all but prepared.json
    shard = shards(living.out)[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    living.open()
    with pytest.raises(KoviltError, match=f'^{shard}: damaged, its content is not what was prepared'):
        verify_prepared(living.out)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_an_image_whose_patches_have_changed_is_broken(living, caplog):
    living.train['max_broken_fraction'] = 0.2
    living.prepare()
    files, prepared = living.open()
    damaged = shards(living.out)[1]  # of images 4 to 7
    flip(damaged, damaged.stat().st_size - 1)
    with pytest.raises(KoviltError, match=rf'^{damaged}: the patches of .*\.jpg are damaged; copy it again'):
        prepared.image_store.patches.read(7)
    found = batches(prepared)
    assert prepared.broken_images() == [prepared.image_store.name(7)]
    assert {number for batch in found for number in batch['image_id'].tolist()} == {
        prepared.image_store.image_id(number) for number in range(10) if number != 7
    }
    with pytest.raises(KoviltError, match='2 of 10 images .* cannot be read, more than .*: the patches of'):
        flip(shards(living.out)[0], 64)
        batches(living.open(**{**living.train, 'max_broken_fraction': 0.1})[1])


def test_every_flipped_bit_of_an_image_is_noticed(living):
    living.prepare(val=False)
    _, prepared = living.open()
    shard = shards(living.out)[0]
    original = shard.read_bytes()
    grid = prepared.image_store.patches.read(0)[1]
    size = grid[0] * grid[1] * prepared.image_store.patches._width
    for place in range(64, 64 + size, size // 40):
        shard.write_bytes(original[:place] + bytes([original[place] ^ 1 << place % 8]) + original[place + 1 :])
        with pytest.raises(KoviltError, match='are damaged'):
            living.open()[1].image_store.patches.read(0)


def test_folders_of_older_versions_have_no_checksums(living):
    living.prepare()
    files, _ = living.open()
    for split in ('train', 'val'):
        path = living.out / split / 'images.arrow'
        write_table(path, {name: column for name, column in map_table(path).items() if name != 'patches_xxh3'})
    summary = json.loads((living.out / 'prepared.json').read_text('utf-8'))
    del summary['digest']
    summary['files'] |= {
        f'{split}/images.arrow': file_entry(living.out / split / 'images.arrow') for split in ('train', 'val')
    }
    (living.out / 'prepared.json').write_text(json.dumps(summary), 'utf-8')
    assert_same(files, living.open()[1])


def test_missing_splits_columns_and_files_are_named(living, tmp_path):
    living.prepare(val=False)
    with pytest.raises(KoviltError, match="split='val': .* was prepared with 'train'"):
        living.open(**VAL)
    with pytest.raises(KoviltError, match='not prepared data, it has no prepared.json'):
        PreparedReader(data_root=str(living.data.root), split='train').read_rows()
    summary = json.loads((living.out / 'prepared.json').read_text('utf-8'))
    (living.out / 'prepared.json').write_text(json.dumps({**summary, 'splits': {}}), 'utf-8')
    with pytest.raises(KoviltError, match='prepared.json: damaged, its content is not what was prepared'):
        living.open()
    for change, message in (
        ({'format': 2}, 'format 2, this kovilt reads 3; prepare again'),
        ({}, 'preparation is not finished'),
    ):
        fresh = {**summary, **change}
        if not change:
            del fresh['files']
        (living.out / 'prepared.json').write_text(json.dumps(fresh), 'utf-8')
        with pytest.raises(KoviltError, match=message):
            living.open()
