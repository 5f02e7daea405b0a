"""Several engines: how they share the work, and what happens when some of them end."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwen3_reranker import ClosedError, EngineError, InputError, Reranker, event_loop
from qwen3_reranker.embedded import failures

from support.checkpoints import copy_demo
from support.engine_processes import (
    TEXTS,
    MakePython,
    MakeReranker,
    children,
    engines_of,
    expected,
    gone,
    wait_until,
)

pytestmark = pytest.mark.slow

GPU = {"FAKE_VLLM_DEVICE": "cuda"}
MANY = [f"text {number}" for number in range(1100)]


@pytest.fixture(autouse=True)
def no_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def group_of(reranker: Reranker) -> Any:
    return reranker._scorer._engines  # type: ignore[attr-defined]


def processes_of(reranker: Reranker) -> list[psutil.Process]:
    return [psutil.Process(engine.running.client.pid) for engine in engines_of(reranker)]


def all_run(reranker: Reranker) -> bool:
    return all(engine.live for engine in engines_of(reranker))


def enough(answered: list[str]) -> bool:
    return len(answered) > 20


def documents(reranker: Reranker) -> dict[str, int]:
    return {device: stats.documents for device, stats in reranker.stats().engines.items()}


def environments(file: Path, *names: str) -> list[tuple[Any, ...]]:
    """Return variables of each engine process, in the order of their values."""
    lines = map(json.loads, file.read_text().splitlines())
    return sorted(tuple(line.get(name) for name in names) for line in lines)


# Devices


@pytest.mark.parametrize(
    ("size", "visible"), [(1, [("4",), ("5",), ("6",), ("7",)]), (2, [("4,5",), ("6,7",)])]
)
def test_each_engine_sees_its_own_gpus(
    make_reranker: MakeReranker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    size: int,
    visible: list[tuple[str]],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5,6,7")
    file = tmp_path / "environments"
    args = {"environments": str(file), "tensor_parallel_size": size}
    reranker = make_reranker(variables=GPU, devices=[1, 2, 3, 4], engine_args=args)
    assert "not started" in reranker.describe()
    reranker.warm_up()
    assert environments(file, "CUDA_VISIBLE_DEVICES") == visible
    assert list(reranker.stats().engines) == [device for (device,) in visible]
    assert f"on {len(visible)} devices: {visible[0][0]} (vLLM 0.32.0 on cuda" in reranker.describe()


def test_each_engine_runs_on_its_own_cores(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second, *_ = [*os.sched_getaffinity(0)] * 2
    if first == second:
        pytest.skip("a single core")
    # A machine with these two cores and without a GPU.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {first, second})
    monkeypatch.setenv("PATH", str(tmp_path))
    # `devices` has precedence over them.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-1")
    names = ("cores", "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND")
    devices = [f"cpu:{first}", f"cpu:{second}"]
    same: list[tuple[Any, dict[str, Any]]] = [(devices, {}), (None, {"data_parallel_size": 2})]
    for number, (given, args) in enumerate(same):
        file = tmp_path / f"environments-{number}"
        args["environments"] = str(file)
        make_reranker(devices=given, engine_args=args).warm_up()
        assert environments(file, *names) == [([first], "1", "nobind"), ([second], "1", "nobind")]
    # One engine, whose two processes vLLM itself binds.
    file = tmp_path / "environments"
    args = {"environments": str(file), "tensor_parallel_size": 2}
    make_reranker(devices=devices, engine_args=args).warm_up()
    bound = (sorted([first, second]), "1", f"{first}|{second}")
    assert environments(file, *names) == [bound]


def test_devices_of_another_kind_than_the_build(make_reranker: MakeReranker) -> None:
    core = min(os.sched_getaffinity(0))
    with pytest.raises(InputError, match="has 0, but this vLLM is built for a CPU: give cores"):
        make_reranker(devices=[0]).warm_up()
    with pytest.raises(InputError, match=f"has cpu:{core}, but this vLLM is built for a GPU"):
        make_reranker(devices=[f"cpu:{core}"], variables=GPU).warm_up()


def test_an_engine_is_shared_by_the_rerankers_that_name_its_device(
    make_reranker: MakeReranker, make_python: MakePython
) -> None:
    python = make_python(**GPU)
    both = make_reranker(devices=[0, 1], engine_python=python).warm_up()
    second = make_reranker(devices=[1], engine_python=python).warm_up()
    processes = processes_of(both)
    assert processes_of(second) == processes[1:]
    assert second.score("q", TEXTS) == both.score("q", TEXTS)
    assert documents(both) == {"0": 20, "1": 20}
    assert documents(second) == {"1": 40}
    both.close()
    wait_until(lambda: gone(processes[0]))
    assert second.score("q", TEXTS) == expected(second, "q", TEXTS)
    second.close()
    wait_until(lambda: gone(processes[1]))


# Work


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (40, [10] * 4),
        (17, [9, 8, 0, 0]),
        (15, [15, 0, 0, 0]),
        (1000, [250] * 4),
        (1100, [276, 276, 276, 272]),
    ],
)
def test_a_query_is_divided_among_the_engines(
    make_reranker: MakeReranker, count: int, parts: list[int]
) -> None:
    # An engine that answered at once would be the least busy one again.
    args = {"step_seconds": 0.1}
    reranker = make_reranker(variables=GPU, devices=[0, 1, 2, 3], engine_args=args).warm_up()
    scores = reranker.score("q", MANY[:count])
    assert scores == expected(reranker, "q", MANY[:count])
    assert sorted(documents(reranker).values(), reverse=True) == parts


async def test_the_least_busy_engine_gets_the_next_query(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables=GPU, devices=[0, 1])
    await reranker.awarm_up()
    first, _ = processes_of(reranker)
    first.suspend()
    stopped = asyncio.create_task(reranker.ascore("q", ["a"]))
    group = group_of(reranker)
    while not group.engines[0].outstanding:
        await asyncio.sleep(0.005)
    for number in range(5):
        await reranker.ascore(f"query {number}", TEXTS[:4])
    assert documents(reranker) == {"0": 0, "1": 20}
    first.resume()
    assert await stopped == expected(reranker, "q", ["a"])
    assert [engine.outstanding for engine in group.engines] == [0, 0]


async def test_a_canceled_query_leaves_all_engines(make_reranker: MakeReranker) -> None:
    args = {"step_seconds": 0.2}
    reranker = make_reranker(variables=GPU, devices=[0, 1], engine_args=args)
    await reranker.awarm_up()
    engines = engines_of(reranker)
    call = asyncio.create_task(reranker.ascore("q", MANY))
    while not all(engine.outstanding for engine in engines):
        await asyncio.sleep(0.005)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for engine in engines:
        assert await event_loop.arun(engine.running.client.count_requests()) == 0
        assert engine.outstanding == 0


def test_the_stages_of_all_starts_are_reported_once(make_reranker: MakeReranker) -> None:
    stages: list[str] = []
    reranker = make_reranker(variables=GPU, devices=[0, 1, 2])
    reranker.warm_up(progress=stages.append)
    assert stages == ["import", "ready"]
    reranker.warm_up(progress=stages.append)
    assert stages == ["import", "ready"]


# Failures


def test_nothing_is_lost_when_engines_are_killed(make_reranker: MakeReranker) -> None:
    args = {"step_seconds": 0.005}
    reranker = make_reranker(variables=GPU, devices=[0, 1, 2], engine_args=args).warm_up()
    queries = [f"query {number}" for number in range(200)]
    right = {query: expected(reranker, query, TEXTS) for query in queries}
    for killed in range(3):
        answered: list[str] = []

        def call(query: str, answered: list[str] = answered) -> None:
            assert reranker.score(query, TEXTS) == right[query]
            answered.append(query)

        with ThreadPoolExecutor(16) as pool:
            calls = [pool.submit(call, query) for query in queries]
            wait_until(partial(enough, answered))
            processes_of(reranker)[killed].kill()
            for done in calls:
                done.result()
        wait_until(lambda: all_run(reranker))
    stats = reranker.stats()
    assert [engine.restarts for engine in stats.engines.values()] == [1, 1, 1]
    assert [engine.failures for engine in stats.engines.values()] == [1, 1, 1]
    assert stats.retries > 0
    assert stats.failures == 0
    assert sum(documents(reranker).values()) == stats.scored == 3 * 200 * len(TEXTS)


def test_an_engine_killed_while_idle_is_replaced_in_the_background(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker(variables=GPU, devices=[0, 1]).warm_up()
    engine = engines_of(reranker)[0]
    processes_of(reranker)[0].kill()
    wait_until(lambda: not engine.live)
    assert "0 (vllm, not running), 1 (vLLM" in reranker.describe()
    assert reranker.score("q", ["a"]) == expected(reranker, "q", ["a"])
    assert documents(reranker) == {"0": 0, "1": 1}
    wait_until(lambda: engine.live)
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)
    assert reranker.stats().engines["0"].restarts == 1


def test_an_engine_that_hangs_is_replaced(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables=GPU, devices=[0, 1], timeout=1).warm_up()
    processes_of(reranker)[0].suspend()
    ranking = reranker.rerank("q", ["a"])
    assert [hit.score for hit in ranking] == expected(reranker, "q", ["a"])
    assert ranking.usage.retries == 1
    wait_until(lambda: all_run(reranker))
    assert reranker.stats().engines["0"].restarts == 1


def test_when_all_engines_have_ended_the_next_call_waits_for_new_ones(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker(variables=GPU, devices=[0, 1]).warm_up()
    for process in processes_of(reranker):
        process.kill()
    wait_until(lambda: not any(engine.live for engine in engines_of(reranker)))
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)
    assert reranker.stats().failures == 0


def test_prompts_that_end_engines_are_tried_twice(make_reranker: MakeReranker) -> None:
    probe = make_reranker()
    poison = min({*probe.prompt("q", "zebra").ids} - {*probe.prompt("q", "a").ids})
    args = {"die_at": poison}
    reranker = make_reranker(variables=GPU, devices=[0, 1, 2], engine_args=args).warm_up()
    processes = processes_of(reranker)
    with pytest.raises(EngineError, match="was killed"):
        reranker.score("q", ["zebra"])
    assert [gone(process) for process in processes] == [True, True, False]
    assert reranker.score("q", ["a"]) == expected(reranker, "q", ["a"])
    wait_until(lambda: all_run(reranker))


def test_an_error_that_does_not_end_an_engine_is_not_tried_again(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker(variables=GPU, devices=[0, 1], engine_args={"fail_at": 77}).warm_up()
    group = group_of(reranker)
    model = event_loop.run(group.ready())
    with pytest.raises(EngineError, match="planted"):
        event_loop.run(group.encode(model, [[77]]))
    assert [engine.failures.total for engine in group.engines] == [0, 0]


def test_all_devices_have_to_start(make_reranker: MakeReranker, tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    args = {"refuse_in": str(tmp_path)}
    reranker = make_reranker(variables=GPU, devices=[0, 1], engine_args=args)
    for call in (reranker.warm_up, lambda: reranker.score("q", ["a"])):
        with pytest.raises(EngineError, match="GPU 1 has fallen off the bus"):
            call()
    (tmp_path / "1").unlink()
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)
    assert documents(reranker) == {"0": 20, "1": 20}


def test_the_others_go_on_without_an_engine_that_does_not_start_again(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(failures, "_FIRST_PAUSE", 600.0)
    monkeypatch.setattr(failures, "_LONGEST_PAUSE", 600.0)
    args = {"refuse_in": str(tmp_path)}
    reranker = make_reranker(variables=GPU, devices=[0, 1], engine_args=args).warm_up()
    failing = engines_of(reranker)[1]
    (tmp_path / "1").touch()
    processes_of(reranker)[1].kill()
    wait_until(lambda: not failing.live)
    while failing.failures.total < 3:
        assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)
    before = set(children())
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)
    wait_until(lambda: set(children()) <= before)
    assert failing.failures.total == 3
    with pytest.raises(EngineError, match=r"3 times in a row.*fallen off the bus"):
        reranker.warm_up()
    assert reranker.stats().failures == 0


def test_engines_with_other_files_do_not_share_a_query(
    make_python: MakePython, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that starts again after the model was replaced is not used beside the old ones."""
    folder = copy_demo(tmp_path / "model")
    python = make_python(**GPU)
    with Reranker(str(folder), engine_python=python, devices=[0, 1], check=False) as reranker:
        reranker.warm_up()
        changed, other = engines_of(reranker)
        os.utime(folder / "model.safetensors", (1, 1))
        processes_of(reranker)[0].kill()
        wait_until(lambda: not changed.live)
        while changed.failures.total < 2:
            reranker.score("q", TEXTS)
        assert "have changed since other engines loaded them" in caplog.text
        # Without an engine that has the old files, all start with the new ones.
        psutil.Process(other.running.client.pid).kill()
        wait_until(lambda: not other.live)
        assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)
        # A call starts the engine that has ended; if it failed three times, after a pause of 5 s.
        wait_until(lambda: reranker.score("q", TEXTS) and all_run(reranker))


# The end


def test_closing_ends_all_engines_and_calls(make_reranker: MakeReranker) -> None:
    args = {"step_seconds": 600}
    reranker = make_reranker(variables=GPU, devices=[0, 1, 2], engine_args=args).warm_up()
    processes = processes_of(reranker)
    engines = engines_of(reranker)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.score, "q", MANY)
        wait_until(lambda: all(engine.outstanding for engine in engines))
        reranker.close()
        assert isinstance(call.exception(30), ClosedError)
    assert all(map(gone, processes))


def test_closing_ends_a_start_in_the_background(
    make_reranker: MakeReranker, make_python: MakePython
) -> None:
    python = Path(make_python(**GPU))
    reranker = make_reranker(engine_python=str(python), devices=[0, 1]).warm_up()
    engine = engines_of(reranker)[0]
    slow = "export FAKE_VLLM_IMPORT_SECONDS=600\nexec"
    python.write_text(python.read_text().replace("exec", slow))
    processes_of(reranker)[0].kill()
    wait_until(lambda: not engine.live)
    running = len(children())
    assert reranker.score("q", ["a"]) == expected(reranker, "q", ["a"])
    wait_until(lambda: len(children()) > running)
    reranker.close()
    wait_until(lambda: not children())
