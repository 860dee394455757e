"""Processes that do not have the same code, config or data are told before their first step."""

import multiprocessing
import os
import queue
import re
from collections.abc import Callable

import pytest
import torch.distributed

from kovilt.engine.distributed import check_ranks_agree, check_same_file
from kovilt.errors import KoviltError
from tests.tools.test_dist import free_port

FACTS = {'kovilt': '1', 'seed': 0, 'data.train.rows': 'ab', 'optim_wrapper.optimizer.lr': '0.1'}


def join_and_check(rank: int, port: str, check: Callable[[int], None], results: multiprocessing.Queue) -> None:
    os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'RANK': str(rank), 'WORLD_SIZE': '2'}
    torch.distributed.init_process_group('gloo')
    try:
        check(rank)
        results.put((rank, ''))
    except KoviltError as error:
        results.put((rank, str(error)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    'change, message',
    [
        ({}, ''),
        ({'seed': 5}, 'rank 1 differs from rank 0 in seed: 5, not 0; start all processes with the same code'),
        ({'data.train.rows': 'cd'}, "in data.train.rows: 'cd', not 'ab'"),
        ({'model.drop_rate': '0.5'}, "in model.drop_rate: '0.5', not None"),
    ],
    ids=['same', 'seed', 'rows', 'config'],
)
def test_all_ranks_name_the_difference(change, message):
    told = run_on_two_ranks(lambda rank: check_ranks_agree({**FACTS, **(change if rank else {})}))
    assert all(text == '' if not message else message in text for text in told)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'the same', ''),
        (
            b'another',
            'iter_3.pth: rank 1, on .*, has another file of that name than rank 0; let all machines share the ',
        ),
        (
            None,
            'iter_3.pth: rank 1, on .*, has no such file; let all machines share the work folder, or copy the checkp',
        ),
    ],
)
def test_a_checkpoint_that_not_all_machines_have_is_told_by_all(tmp_path, content, message):
    """Each process has a folder of its own, as on machines that share none."""
    for rank, text in enumerate([b'the same', content]):
        (tmp_path / str(rank)).mkdir()
        if text is not None:
            (tmp_path / str(rank) / 'iter_3.pth').write_bytes(text * 10_000)

    def check(rank: int) -> None:
        os.chdir(tmp_path / str(rank))
        check_same_file('iter_3.pth')

    assert all(re.match(message or '$', text) for text in run_on_two_ranks(check))


def run_on_two_ranks(check: Callable[[int], None]) -> list[str]:
    """What the KoviltErrors of `check`, called with the rank, say on both; '' = none."""
    fork = multiprocessing.get_context('fork')
    results, port = fork.Queue(), free_port()
    processes = [fork.Process(target=join_and_check, args=(rank, port, check, results)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        found = dict(results.get(timeout=60) for _ in processes)
    except queue.Empty:
        pytest.fail('a process waits for the other')
    finally:
        for process in processes:
            process.join(10)
    return [found[rank] for rank in (0, 1)]


def test_a_run_shares_its_rows_answers_tokenizer_and_config(build):
    facts = build(steps=1, limit=16).run_facts
    assert {'randomness.seed', 'model.encoder.hidden_size', 'code.kovilt'} <= facts.keys()
    assert {'data.train.rows', 'data.val.images', 'vocabulary', 'tokenizer', 'answers'} <= facts.keys()
    assert not any('data_root' in name or 'work_dir' in name for name in facts)
