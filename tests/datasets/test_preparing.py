"""Preparing continues where it was interrupted, samples rows by their content, and refuses before it writes."""

import json
import multiprocessing
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from kovilt.datasets import PlainReader, PreparedReader, QuestionDataset, prepare, prepared_writer, preparing
from kovilt.datasets.preparing import Preparation
from kovilt.datasets.preparing_task import Task, task_of_environment
from kovilt.errors import KoviltError
from kovilt.verification.findings import Findings
from kovilt.verification.rows import read_split
from kovilt.verification.sources import DataSource
from tests.support.pair_data import SUBSET

LABELS = f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json'


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(preparing, 'IMAGES_PER_SHARD', 4)


@pytest.fixture
def run(data, tmp_path):
    """Prepares the living set; arguments as of `prepare`, `train` changes its config."""
    data.living(images=10)

    def run(out: str = 'out', train: dict | None = None, **options) -> Preparation:
        reader = {'type': 'AIHubLivingReader', 'data_root': str(data.root), 'split': 'train'}
        config = {'type': 'QuestionDataset', 'reader': reader, **data.pipelines, 'answers': {'min_count': 1}}
        return prepare(tmp_path / out, {'train': {**config, **(train or {})}}, **options)

    return run


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob('*') if file.is_file()}


def opened(folder: Path, data, split: str = 'train') -> QuestionDataset:
    pipelines = {**data.pipelines, 'image_pipeline': [{'type': 'LoadPrepared'}]}
    return QuestionDataset(reader=PreparedReader(data_root=str(folder), split=split), **pipelines)


def asked(dataset) -> list[tuple[str, str]]:
    return [(record['image'], record['question']) for record in map(dataset.record, range(len(dataset)))]


def test_an_interrupted_command_continues_to_the_same_bytes(run, tmp_path, monkeypatch):
    run('whole')
    write = prepared_writer._write_shard

    def write_one(dataset, shard):
        if shard.path.name != 'shard-00000.patches':
            shard.path.with_name(f'.{shard.path.name}.1.tmp').write_bytes(b'half')
            raise KeyboardInterrupt
        return write(dataset, shard)

    monkeypatch.setattr(prepared_writer, '_write_shard', write_one)
    with pytest.raises(KeyboardInterrupt):
        run()
    written = []
    monkeypatch.setattr(
        prepared_writer, '_write_shard', lambda dataset, shard: written.append(shard.path.name) or write(dataset, shard)
    )
    assert not run().was_complete
    assert written == ['shard-00001.patches', 'shard-00002.patches']
    assert content(tmp_path / 'out') == content(tmp_path / 'whole')
    assert run().was_complete and len(written) == 2


def test_workers_change_no_byte(run, tmp_path):
    run('one')
    run('two', workers=2)
    assert content(tmp_path / 'one') == content(tmp_path / 'two')


def test_other_arguments_are_refused_and_both_are_named(run, tmp_path, data):
    run(rows=12)
    before = content(tmp_path / 'out')
    with pytest.raises(KoviltError, match=r'holds other prepared data \(train.dataset.limit 12, not 15; .*--overwrite'):
        run(rows=15)
    with pytest.raises(KoviltError, match='train.dataset.limit 12, not null'):
        run()
    assert content(tmp_path / 'out') == before
    (tmp_path / 'out' / 'mine.txt').write_text('stays')
    run(rows=15, overwrite=True)
    assert len(opened(tmp_path / 'out', data)) == 15
    assert (tmp_path / 'out' / 'mine.txt').read_text() == 'stays'


def test_a_folder_of_something_else_is_left_alone(run, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine.txt').write_text('mine')
    for overwrite in (False, True):
        with pytest.raises(KoviltError, match='is not empty and holds no prepared data'):
            run(overwrite=overwrite)
    with pytest.raises(KoviltError, match='is a file: name a folder'):
        run('out/mine.txt')
    assert content(tmp_path / 'out') == {'mine.txt': b'mine'}


def test_rows_are_sampled_by_their_content(run, tmp_path, data):
    run('one', rows=12)
    run('seven', rows=12, seed=7)
    labels = data.living(images=10)
    labels['question'].reverse()
    labels['images'].reverse()
    data.write(LABELS, labels)
    run('reversed', rows=12)
    rows = {name: set(asked(opened(tmp_path / name, data))) for name in ('one', 'seven', 'reversed')}
    assert len(rows['one']) == 12 and rows['one'] == rows['reversed'] != rows['seven']


def test_the_val_split_has_its_own_images_and_answers_outside_the_vocabulary(run, tmp_path, data):
    labels = data.living(images=10)
    for row in labels['question']:
        row['answer'] = f'{row["answer"]} {row["image_id"]}'
    data.write(LABELS, labels)
    summary = run(val_rows=7).summary
    assert {name: split['rows'] for name, split in summary['splits'].items()} == {'train': 24, 'val': 6}
    train, val = (opened(tmp_path / 'out', data, split) for split in ('train', 'val'))
    assert not {image for image, _ in asked(train)} & {image for image, _ in asked(val)}
    assert summary['splits']['train']['left_out'] == {'image held out': 6}
    answers = (tmp_path / 'out' / 'answers.json').read_text('utf-8')
    assert not any(f'"{val.record(row)["answer"]}"' in answers for row in range(6))
    assert val[0]['image']['patches'].shape == (6, 768)
    with pytest.raises(KoviltError, match='val_rows=30: the training split has 30 rows'):
        run('all', val_rows=30)


@pytest.mark.parametrize(
    'counts, wanted, reached',
    [([7] * 10, 30, 28), ([7] * 10, 33, 35), ([7, 1, 1, 7], 9, 9), ([0, 4, 0, 4], 1, 4), ([5, 3, 2], 8, 8)],
)
def test_whole_images_come_near_the_wanted_number(counts, wanted, reached):
    counts, ranks = np.array(counts), np.arange(len(counts))
    chosen = preparing._choose_images(counts, ranks, wanted)
    assert len(set(chosen)) == len(chosen) and counts[chosen].sum() == reached


def test_too_little_disk_space_is_reported_before_anything_is_written(run, tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(0, 0, 20_000))
    with pytest.raises(KoviltError, match=r'about 0.\d MB for 10 images and the rows; 0.0 MB are free: name a fol'):
        run()
    assert not (tmp_path / 'out').exists()
    messages = []
    monkeypatch.undo()
    run('room', log=messages.append)
    assert len(messages) == 1 and 'for 10 images' in messages[0]


def test_repaired_images_are_read_when_preparing_continues(run, data, tmp_path):
    file = sorted(data.root.rglob('*.jpg'))[5]
    image = file.read_bytes()
    file.write_text('no image')
    with pytest.raises(KoviltError, match=r'1 of 10 images of .* cannot be read.*max_broken_fraction=0.01'):
        run()
    file.write_bytes(image)
    assert run().summary['splits']['train']['broken'] == 0


def test_augmented_images_are_refused(run, data, tmp_path):
    load, *others = data.pipelines['image_pipeline']
    with pytest.raises(KoviltError, match='RandAugment changes the images .* LoadPrepared, JoinPatches, RandAugment'):
        run(train={'image_pipeline': [load, {'type': 'RandAugment', 'num_ops': 2, 'magnitude': 9}, *others]})
    with pytest.raises(KoviltError, match='none of 10 images gave patches: image_pipeline makes no patches'):
        run(train={'image_pipeline': [{'type': 'NoImage'}]})
    assert not (tmp_path / 'out').exists()


def test_progress_counts_images(run):
    calls = []
    run(progress=lambda split: lambda done, total: calls.append((split, done, total)))
    assert calls == [('train', 4, 10), ('train', 8, 10), ('train', 10, 10)]


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_tasks_write_together_what_one_writes_alone(run, tmp_path, order):
    run('alone', val_rows=7)
    first, last = (run(val_rows=7, task=Task(index, 2)) for index in order)
    assert first.summary is None and first.missing
    assert last.summary is not None and not last.was_complete
    assert content(tmp_path / 'out') == content(tmp_path / 'alone')
    assert run(val_rows=7, task=Task(1, 2)).was_complete


def test_tasks_that_run_at_the_same_time_write_the_same_bytes(run, tmp_path):
    run('alone')
    fork = multiprocessing.get_context('fork')
    processes = [fork.Process(target=run, kwargs={'task': Task(index, 2)}) for index in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert content(tmp_path / 'out') == content(tmp_path / 'alone')


def test_a_task_that_ends_with_another_keeps_its_complete_data(run, tmp_path, monkeypatch):
    """Both have found all shards complete; the other removes the states while this one reads them."""
    run('alone')
    run(task=Task(0, 2))
    read_states = prepared_writer.SplitWriter.read_states

    def other_ends_first(writer):
        monkeypatch.setattr(prepared_writer.SplitWriter, 'read_states', read_states)
        run(task=Task(1, 2))
        return read_states(writer)

    monkeypatch.setattr(prepared_writer.SplitWriter, 'read_states', other_ends_first)
    assert run(task=Task(1, 2)).summary is not None
    assert content(tmp_path / 'out') == content(tmp_path / 'alone')


def test_a_killed_task_is_repeated_with_any_number_of_tasks(run, tmp_path, monkeypatch):
    run('alone')
    run(task=Task(2, 3))
    (tmp_path / 'out' / 'train' / '.shard-00000.patches.1.tmp').write_bytes(b'half')
    written = []
    write = prepared_writer._write_shard
    monkeypatch.setattr(
        prepared_writer, '_write_shard', lambda dataset, shard: written.append(shard.path.name) or write(dataset, shard)
    )
    assert run().summary is not None and written == ['shard-00000.patches', 'shard-00001.patches']
    assert content(tmp_path / 'out') == content(tmp_path / 'alone')


def test_a_task_does_not_empty_the_folder_of_the_others(run):
    with pytest.raises(KoviltError, match='--overwrite: task 2 of 2 would remove what the others write'):
        run(overwrite=True, task=Task(1, 2))


@pytest.mark.parametrize(
    'environment, task',
    [
        ('', Task(0, 1)),
        ('RANK=3 WORLD_SIZE=4', Task(3, 4)),
        ('SLURM_NTASKS=4 SLURM_PROCID=0', Task(0, 1)),  # a batch script, in which one process runs
        ('SLURM_NTASKS=4 SLURM_PROCID=2 SLURM_STEP_NUM_TASKS=4', Task(2, 4)),
        ('SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_STEP=3', Task(2, 3)),
        ('SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_COUNT=2 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2', Task(3, 4)),
    ],
)
def test_the_environment_names_the_task(environment, task):
    assert task_of_environment(dict(pair.split('=') for pair in environment.split())) == task


@pytest.mark.parametrize(
    'environment, message',
    [
        ({'RANK': 'x', 'WORLD_SIZE': '2'}, "variable RANK='x': not a whole number"),
        ({'RANK': '2', 'WORLD_SIZE': '2'}, 'RANK=2 does not lie below WORLD_SIZE=2'),
        ({'RANK': '-1', 'WORLD_SIZE': '2'}, 'RANK=-1 does not lie below'),
        ({'SLURM_ARRAY_TASK_ID': '5', 'SLURM_ARRAY_TASK_COUNT': '2'}, 'SLURM_ARRAY_TASK_ID=5 does not lie below'),
    ],
)
def test_a_wrong_environment_is_named(environment, message):
    with pytest.raises(KoviltError, match=message):
        task_of_environment(environment)


def test_weights_of_answers_are_prepared(data, tmp_path):
    data.image('a.png')
    answers = [{'예': 0.75, '네': 0.25}, ['예', '네', '네'], {'네': 0.5}]
    rows = [{'image': 'a.png', 'question': f'소파 {n}', 'answers': own} for n, own in enumerate(answers)]
    data.write('train.jsonl', '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows))
    reader = {'type': 'PlainReader', 'data_root': str(data.root), 'split': 'train'}
    prepare(tmp_path / 'out', {'train': {'type': 'QuestionDataset', 'reader': reader, **data.pipelines}})
    dataset, again = data.open(PlainReader), opened(tmp_path / 'out', data)
    for row in range(3):
        ours, theirs = ({k: v for k, v in one.record(row).items() if k != 'image'} for one in (dataset, again))
        assert ours == theirs
    assert again.record(0)['answer_weights'] == [0.75, 0.25] and 'answer_weights' not in again.record(1)
    findings = Findings()
    split = read_split(
        DataSource(PreparedReader, {'data_root': str(tmp_path / 'out'), 'split': 'train'}, True), findings
    )
    assert len(split) == 3 and split.answers[1].as_py() == ['예', '네', '네'] and not findings.times['labels.refused']
