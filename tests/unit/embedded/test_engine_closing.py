"""The engine process: closing and sharing it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import ClosedError, Reranker, event_loop
from qwen3_reranker.embedded.engine_registry import active_engines
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank

from support.engine_processes import (
    TEXTS,
    MakePython,
    MakeReranker,
    children,
    engine_of,
    engines,
    expected,
    gone,
    process_of,
    wait_until,
)

pytestmark = pytest.mark.slow


def test_closing_ends_all_that_was_started(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"helper": True})
    reranker.warm_up()
    process = process_of(reranker)
    helpers = process.children()
    assert helpers
    folder = engine_of(reranker).running.client.log.parent
    assert folder.exists()
    started = time.monotonic()
    reranker.close()
    assert time.monotonic() - started < 20  # the helpers would go on for ten minutes
    wait_until(lambda: gone(process) and all(map(gone, helpers)))
    assert not folder.exists()
    with pytest.raises(ClosedError):
        reranker.score("q", ["a"])


def test_closing_fails_the_calls_that_wait(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"step_seconds": 0.2})
    reranker.warm_up()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.score, "q", TEXTS + [str(n) for n in range(500)])
        client = engine_of(reranker).running.client
        wait_until(lambda: event_loop.run(client.count_requests()) > 100)
        reranker.close()
        assert isinstance(call.exception(30), ClosedError)


def test_a_shared_engine_completes_the_calls_that_wait(make_python: MakePython) -> None:
    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}
    settings["engine_args"] = {"step_seconds": 0.2}
    with ThreadPoolExecutor(1) as pool, Reranker("demo", **settings) as other:
        reranker = Reranker("demo", **settings)
        reranker.warm_up()
        texts = TEXTS + [str(n) for n in range(500)]  # which take several steps
        call = pool.submit(reranker.score, "q", texts)
        client = engine_of(reranker).running.client
        wait_until(lambda: event_loop.run(client.count_requests()) > 100)
        reranker.close()
        assert call.result(30) == expected(other, "q", texts)


def test_closing_during_the_start(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "600"})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.warm_up)
        wait_until(children)
        reranker.close()
        assert isinstance(call.exception(30), ClosedError)
    wait_until(lambda: not children())


def test_closing_waits_for_the_end_of_a_start_that_was_interrupted(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "600"})
    engine = engine_of(reranker)
    call = event_loop.submit(reranker.awarm_up())
    wait_until(children)
    [process] = children()
    wait_until(lambda: len(process.cmdline()) > 3)
    folder = Path(process.cmdline()[3])
    assert folder.exists()
    call.cancel()

    async def abandon() -> None:
        for _ in range(20):  # turns of the loop, in which the call ends
            engine.abandon_start()
            await asyncio.sleep(0)

    event_loop.run(abandon())
    reranker.close()
    assert not process.is_running()
    assert not folder.exists()


@pytest.mark.parametrize("turns", range(6))
async def test_a_canceled_close_leaves_nothing_behind(
    make_reranker: MakeReranker, turns: int
) -> None:
    reranker = make_reranker()
    await reranker.awarm_up()
    process = process_of(reranker)
    closing = asyncio.create_task(reranker.aclose())
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    wait_until(lambda: gone(process))
    assert not engines()


def test_a_collected_reranker_releases_its_engine(make_python: MakePython) -> None:
    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}
    reranker = Reranker("demo", **settings)
    reranker.warm_up()
    process = process_of(reranker)
    del reranker
    wait_until(lambda: gone(process))
    assert not engines()


def test_collection_and_acquisition_race(make_python: MakePython) -> None:
    """An engine that is handed out is never one that somebody else closes."""
    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}

    def make_and_drop(_: int) -> None:
        for _ in range(50):
            reranker = Reranker("demo", **settings)
            assert engine_of(reranker) in active_engines()
            del reranker

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make_and_drop, range(8)))
    wait_until(lambda: not engines())


def test_equal_timeouts_share_an_engine(make_python: MakePython) -> None:
    settings: dict[str, Any] = {"model": "demo", "engine_python": make_python()}
    # pydantic turns the adapter's timeout into a float.
    kinds: list[Any] = [Reranker, LangChainRerank]
    made = [kind(**settings, timeout=timeout) for kind in kinds for timeout in (60, 60.0)]
    made.append(Reranker(**settings))
    assert len(engines()) == 1
    for reranker in made:
        reranker.close()


def test_equal_settings_share_an_engine(make_python: MakePython) -> None:
    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}
    first, second = (Reranker("demo", **settings) for _ in range(2))
    other = Reranker("demo", max_length=512, **settings)
    assert engine_of(first) is engine_of(second) is not engine_of(other)
    first.warm_up()
    process = process_of(first)
    first.close()
    first.close()
    assert second.score("q", TEXTS) == expected(second, "q", TEXTS)
    assert process_of(second) == process
    second.close()
    other.close()
    assert gone(process)
