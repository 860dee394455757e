"""Texts from the cache equal those that are tokenized when read, whatever happened to the file or its sources."""

import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kovilt.datasets import (
    AIHubCOCOKorean,
    AIHubLivingVQA,
    GlobalBatchSampler,
    ImageGroupSampler,
    TokenizeKorean,
    collate_pairs,
    token_cache,
    train_tokenizer,
)
from kovilt.errors import KoviltError
from kovilt.registry import TRANSFORMS
from tests.support.pair_data import TEXTS


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / 'deep' / 'tokens'


@pytest.fixture
def messages(monkeypatch) -> list[str]:
    """The log messages of datasets about their caches."""
    lines = []
    log = AIHubLivingVQA._log
    monkeypatch.setattr(
        AIHubLivingVQA, '_log', lambda self, message, level=20: lines.append(message) or log(self, message, level)
    )
    return lines


def open_(data, cache=None, **options) -> AIHubLivingVQA:
    cache = None if cache is None else str(cache)
    return AIHubLivingVQA(data_root=str(data.root), token_cache=cache, **{**data.pipelines, **options})


def batches(dataset, **options) -> list[dict]:
    sampler = GlobalBatchSampler(ImageGroupSampler(dataset, shuffle=True, seed=0), 5)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_pairs, **options)
    return [batch for parts in loader for batch in parts]


def assert_same(one, two, **options) -> None:
    one, two = batches(one), batches(two, **options)
    assert len(one) == len(two) > 1
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys() and left.get('records') == right.get('records')
        for key in left.keys() - {'records'}:
            assert left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]), key


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    'options',
    [{}, {'answers': {'min_count': 4}}, {'limit': 7}, {'keep_record': True}, {'cache_images': True}],
    ids=lambda options: ','.join(options) or 'all',
)
def test_batches_equal_those_without_a_cache(data, folder, options):
    data.living()
    files_ = open_(data, **options)
    for start in ('makes it', 'maps it'):
        assert_same(files_, open_(data, folder, **options)), start
    assert len(files(folder)) == 1


def test_captions_and_all_workers(data, folder):
    data.captions(train=6)
    one, two = (
        AIHubCOCOKorean(data_root=str(data.root), token_cache=cache, **data.pipelines) for cache in (None, str(folder))
    )
    assert_same(one, two, num_workers=2)
    assert_same(one, pickle.loads(pickle.dumps(two)))  # what a spawned worker gets


def test_a_broken_image_is_marked_in_its_record(data, folder):
    data.living()
    next(data.root.rglob('*.jpg')).write_text('no image')
    options = {'keep_record': True, 'test_mode': True}
    cached = open_(data, folder, **options)
    assert_same(open_(data, **options), cached)
    assert sum('broken' in record for batch in batches(cached) for record in batch['records']) == 3


def test_texts_are_tokenized_once(data, folder, messages, monkeypatch):
    data.living()
    expected = open_(data)
    open_(data, folder)
    assert sum('tokenizing 12 texts, once' in line for line in messages) == 1
    transform = TokenizeKorean.transform
    monkeypatch.setattr(TokenizeKorean, 'transform', lambda self, results: pytest.fail('tokenized again'))
    cached = open_(data, folder)
    found = batches(cached)
    monkeypatch.setattr(TokenizeKorean, 'transform', transform)
    assert all(torch.equal(a['word_ids'], b['word_ids']) for a, b in zip(batches(expected), found, strict=True))


def test_selecting_rows_does_not_change_the_file(data, folder):
    data.living()
    for options in ({}, {'limit': 5}, {'answers': {'min_count': 4}}, {'seed': 3}):
        open_(data, folder, **options)
    assert len(files(folder)) == 1


def test_other_texts_have_another_file(data, folder):
    labels = data.living()
    open_(data, folder)
    labels['question'][0]['question'] = '소파 위에'
    data.write('Training/labels/[라벨]개인생활환경 이미지 수집/개인생활환경 이미지 수집.json', labels)
    assert_same(open_(data), open_(data, folder))
    assert len(files(folder)) == 2


@pytest.mark.parametrize('change', ['words', 'length', 'words of the same folder'])
def test_another_tokenizer_has_another_file(data, folder, tmp_path, change):
    data.living()
    train_tokenizer(TEXTS, tmp_path / 'words', vocab_size=200)
    train_tokenizer(TEXTS, tmp_path / 'fewer', vocab_size=60)
    length, path = 12, tmp_path / 'words'

    def pipeline() -> dict:
        return {'text_pipeline': [{'type': 'TokenizeKorean', 'tokenizer': str(path), 'max_text_len': length}]}

    before = batches(open_(data, folder, **pipeline()))
    if change == 'words':
        path = tmp_path / 'fewer'
    elif change == 'length':
        length = 6
    else:
        shutil.copytree(tmp_path / 'fewer', path, dirs_exist_ok=True)
    cached = open_(data, folder, **pipeline())
    assert_same(open_(data, **pipeline()), cached)
    assert any(not torch.equal(a['input_ids'], b['input_ids']) for a, b in zip(before, batches(cached), strict=True))
    assert len(files(folder)) == 2


def cut_off(content: bytes) -> bytes:
    return content[:-8]


def nothing(content: bytes) -> bytes:
    return b''


def no_header(content: bytes) -> bytes:
    return bytes(256) + content[256:]


def another_header(content: bytes) -> bytes:
    return b'[1, 2]'.ljust(256) + content[256:]


def a_token_changed(content: bytes) -> bytes:
    return content[:300] + bytes([content[300] ^ 1]) + content[301:]


def an_end_changed(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


@pytest.mark.parametrize('damage', [cut_off, nothing, no_header, another_header, a_token_changed, an_end_changed])
def test_a_damaged_file_is_written_again(data, folder, messages, damage):
    data.living()
    expected = open_(data, folder)
    (file,) = files(folder)
    whole = file.read_bytes()
    file.unlink()  # `expected` has the file mapped, so it must not be cut off in its place
    file.write_bytes(damage(whole))
    assert_same(expected, open_(data, folder))
    assert files(folder) == [file] and file.read_bytes() == whole
    (line,) = [line for line in messages if 'is written again' in line]
    assert line.startswith(f'{file}: damaged (') and line.endswith('; it is written again') and '\n' not in line


def test_without_a_writable_folder_texts_are_tokenized_when_read(data, tmp_path, messages):
    data.living()
    (tmp_path / 'file').write_text('')
    cached = open_(data, tmp_path / 'file' / 'tokens')
    assert_same(open_(data), cached)
    (line,) = [line for line in messages if 'cannot be written' in line]
    assert line.startswith('token_cache ') and 'Name another folder, or None' in line and '\n' not in line


def test_an_interrupted_start_leaves_nothing_behind(data, folder, monkeypatch):
    data.living()
    transform, seen = TokenizeKorean.transform, []

    def interrupted(self, results):
        seen.append(results)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return transform(self, results)

    monkeypatch.setattr(TokenizeKorean, 'transform', interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_(data, folder)
    assert not files(folder)
    assert_same(open_(data), open_(data, folder))


def _start(data, folder, barrier, results) -> None:
    barrier.wait()
    dataset = open_(data, folder)
    results.put([batch['input_ids'].tolist() for batch in batches(dataset)])


def test_processes_that_start_at_once_do_not_break_each_other(data, folder):
    data.living()
    context = multiprocessing.get_context('fork')
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_start, args=(data, folder, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert all(one == [batch['input_ids'].tolist() for batch in batches(open_(data))] for one in found)
    assert len(files(folder)) == 1
    assert_same(open_(data), open_(data, folder))


def test_a_file_made_by_another_process_may_replace_the_mapped_one(data, folder):
    data.living()
    dataset = open_(data, folder)
    before = batches(dataset)
    (file,) = files(folder)
    os.replace(file, file.with_suffix('.old'))
    open_(data, folder)
    assert all(torch.equal(a['input_ids'], b['input_ids']) for a, b in zip(before, batches(dataset), strict=True))


def test_it_is_pickled_as_its_path(data, folder):
    data.living()
    cache = open_(data, folder)._tokens
    assert len(pickle.dumps(cache)) < 500 and len(pickle.loads(pickle.dumps(cache))) == 12
    pickled = pickle.dumps(cache)
    files(folder)[0].unlink()
    with pytest.raises(KoviltError, match=r'\.tokens: deleted or damaged while it was in use \([^\n]*\); start again$'):
        pickle.loads(pickled)


@TRANSFORMS.register_module()
class LowerForTest(TokenizeKorean):
    pass


@pytest.mark.parametrize('kinds', [['TokenizeKorean', 'TokenizeKorean'], ['LowerForTest']])
def test_other_transforms_of_texts_are_refused(data, folder, kinds):
    data.living()
    step = data.pipelines['text_pipeline'][0]
    with pytest.raises(
        KoviltError, match='^token_cache: it holds the output of TokenizeKorean, not of .*; leave out one'
    ):
        open_(data, folder, text_pipeline=[{**step, 'type': kind} for kind in kinds])


def test_without_texts_nothing_is_cached(data, folder):
    data.living()
    open_(data, folder, text_pipeline=[])
    assert not folder.exists()


def test_texts_are_cached_in_several_chunks(data, folder, monkeypatch):
    monkeypatch.setattr(token_cache, '_CHUNK', 5)
    data.living()
    dataset = open_(data, folder)
    assert_same(open_(data), dataset)
    rows = np.array([11, 0, 0, 5])
    alone = [dataset._tokens.read(np.array([row]))[0]['input_ids'].tolist() for row in rows]
    assert [text['input_ids'].tolist() for text in dataset._tokens.read(rows)] == alone
    assert dataset._tokens.read(rows[:0]) == []
