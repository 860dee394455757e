"""Processes that do not have the same code, config or data are told before their first step."""

import multiprocessing
import os
import queue

import pytest
import torch.distributed

from kovilt.engine.distributed import check_ranks_agree
from kovilt.errors import KoviltError
from tests.tools.test_dist import free_port

FACTS = {'kovilt': '1', 'seed': 0, 'the rows of the training split': 'ab', 'optim_wrapper.optimizer.lr': '0.1'}


def join_and_check(rank: int, port: str, facts: dict, results: multiprocessing.Queue) -> None:
    os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'RANK': str(rank), 'WORLD_SIZE': '2'}
    torch.distributed.init_process_group('gloo')
    try:
        check_ranks_agree(facts)
        results.put((rank, ''))
    except KoviltError as error:
        results.put((rank, str(error)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    'change, message',
    [
        ({}, ''),
        ({'seed': 5}, 'rank 1 differs from rank 0 in seed: 5, not 0; start all processes with the same code'),
        ({'the rows of the training split': 'cd'}, "in the rows of the training split: 'cd', not 'ab'"),
        ({'model.drop_rate': '0.5'}, "in model.drop_rate: '0.5', not None"),
    ],
    ids=['same', 'seed', 'rows', 'config'],
)
def test_all_ranks_name_the_difference(change, message):
    fork = multiprocessing.get_context('fork')
    results, port = fork.Queue(), free_port()
    processes = [
        fork.Process(target=join_and_check, args=(rank, port, {**FACTS, **(change if rank else {})}, results))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    try:
        found = dict(results.get(timeout=60) for _ in processes)
    except queue.Empty:
        pytest.fail('a process waits for the other')
    finally:
        for process in processes:
            process.join(10)
    assert set(found) == {0, 1}
    for text in found.values():
        assert text == '' if not message else message in text


def test_a_run_shares_its_rows_answers_tokenizer_and_config(build):
    runner = build(steps=1, limit=16)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    facts = runner._shared_facts()
    assert {'seed', 'the rows of the training split', 'the answers', 'model.encoder.hidden_size'} <= facts.keys()
    assert 'vocabulary_digest of the training split' in facts
    assert not any('data_root' in name or 'work_dir' in name for name in facts)
