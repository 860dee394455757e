"""The load of the benchmark is counted in full."""

import asyncio
import json

from benchmarks import serving


def test_every_request_of_the_load_is_timed(address):
    bodies = [serving.make_body(seed) for seed in range(2)]
    assert 30_000 < len(bodies[0]) < 200_000 and json.loads(bodies[0])['image'] != json.loads(bodies[1])['image']
    rate, times = asyncio.run(serving.load(address[1], bodies, clients=3, requests=10))
    assert len(times) == 10 and rate > 0
    low, middle, high = serving.percentiles(times)
    assert 0 < low <= middle <= high <= 1000 * max(times)
