"""Two real engines, on the two halves of this machine's cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from qwen3_reranker import Reranker

from support.engine_processes import engines_of, wait_until
from support.helpers import EAGER

QUERY = "How do I create a directory?"
TEXTS = [f"os.mkdir: Create a directory. Variant {number}." for number in range(120)]
TEXTS += ["time.sleep: Wait.", "math.sqrt: Return the square root. " * 40]


@pytest.fixture(scope="module")
def both() -> Iterator[Reranker]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("a single core")
    halves = cores[: len(cores) // 2], cores[len(cores) // 2 :]
    devices = ["cpu:" + ",".join(map(str, half)) for half in halves]
    with Reranker("demo", engine_args=EAGER, devices=devices) as reranker:
        yield reranker.warm_up()


def test_two_engines_score_as_one_does(reranker: Reranker, both: Reranker) -> None:
    assert both.score(QUERY, TEXTS) == pytest.approx(reranker.score(QUERY, TEXTS), abs=1e-6)
    stats = both.stats().engines
    assert [engine.documents for engine in stats.values()] == [61, 61]
    cores = [
        psutil.Process(engine.running.client.pid).cpu_affinity() for engine in engines_of(both)
    ]
    assert sorted(core for some in cores for core in some or ()) == sorted(os.sched_getaffinity(0))
    assert "on 2 devices: cpu:" in both.describe()


def test_nothing_is_lost_when_one_is_killed(both: Reranker) -> None:
    first = engines_of(both)[0]
    queries = [f"{number}. {QUERY}" for number in range(8)]
    right = [both.score(query, TEXTS) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(both.score, query, TEXTS) for query in queries]
        wait_until(lambda: first.outstanding)
        psutil.Process(first.running.client.pid).kill()
        scores = [call.result() for call in calls]
    assert scores == [pytest.approx(expected, abs=1e-6) for expected in right]
    wait_until(lambda: first.live, seconds=300)
    assert [engine.restarts for engine in both.stats().engines.values()] == [1, 0]
    assert both.stats().failures == 0
    assert both.score(queries[0], TEXTS) == pytest.approx(right[0], abs=1e-6)
