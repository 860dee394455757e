"""The timing helper runs every variant once a round, and its clocks measure what they say."""

import subprocess
import sys
import time

import pytest
import torch

from benchmarks import timing
from kovilt.errors import KoviltError


def test_every_variant_runs_once_a_round_and_ratios_are_of_rounds():
    runs = []
    seconds = timing.time_in_turn({name: lambda n=name: runs.append(n) for name in 'ab'}, rounds=3, warm_ups=1)
    assert len(runs) == 8 and all(set(runs[i : i + 2]) == {'a', 'b'} for i in range(0, 8, 2))
    assert {name: len(times) for name, times in seconds.items()} == {'a': 3, 'b': 3}
    assert timing.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0


def test_untimed_runs_do_not_count_and_repeats_are_averaged():
    runs, ticks = [], iter(range(100))
    seconds = timing.time_in_turn(
        {'a': lambda: runs.append('a')}, rounds=2, clock=lambda: float(next(ticks)), warm_ups=0, untimed=2, repeats=4
    )
    assert len(runs) == 2 * (2 + 4) and seconds == {'a': [0.25, 0.25]}


def test_processor_time_counts_children_and_leaves_sleep_out():
    start = timing.processor_clock()
    time.sleep(0.2)
    assert timing.processor_clock() - start < 0.1
    work = 'import time\nwhile time.process_time() < 0.3: pass'
    subprocess.run([sys.executable, '-c', work], check=True)
    assert timing.processor_clock() - start > 0.25


def test_a_device_that_does_not_exist_is_an_error():
    with pytest.raises(KoviltError, match='--device tpu: give cpu or cuda'):
        timing.prepare_device('tpu')
    if not torch.cuda.is_available():
        with pytest.raises(KoviltError, match='--device cuda: torch sees no GPU'):
            timing.prepare_device('cuda')
