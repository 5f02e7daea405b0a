"""The engine process: how it ends, and what callers see of that."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import (
    ClosedError,
    EngineError,
    EngineStats,
    Reranker,
    RerankerError,
    UnsupportedVersionError,
    event_loop,
)
from qwen3_reranker.embedded import engine_files, failures
from qwen3_reranker.embedded.client import PROGRAM, EngineClient
from qwen3_reranker.redaction import Redactor, Secret

from support.engine_processes import (
    TEXTS,
    MakeReranker,
    children,
    engine_of,
    expected,
    gone,
    process_of,
    wait_until,
)
from support.helpers import SECRET
from support.secrets import assert_unseen

pytestmark = pytest.mark.slow


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
    assert reranker.stats().engines == {"default": EngineStats()}
    process_of(reranker).kill()
    wait_until(lambda: engine_of(reranker).running.client.reason)
    assert "vllm, not running" in reranker.describe()
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)
    tokens = sum(len(reranker.prompt("q", text).ids) for text in TEXTS)
    [stats] = reranker.stats().engines.values()
    assert stats.seconds > 0
    assert replace(stats, seconds=0) == EngineStats(1, 40, tokens, failures=1, restarts=1)


def test_a_failed_start_is_counted(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"refuse": "CUDA out of memory"})
    with pytest.raises(EngineError):
        reranker.warm_up()
    assert reranker.stats().engines == {"default": EngineStats(failures=1)}


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


def test_calls_that_begin_before_the_cause_of_an_end_is_known_fail_with_it(
    make_reranker: MakeReranker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = threading.Event()

    def exit_code(_: EngineClient) -> int:
        known.wait(30)
        return -signal.SIGKILL

    reranker = make_reranker()
    reranker.warm_up()
    monkeypatch.setattr(EngineClient, "_exit_code", exit_code)
    client, process = engine_of(reranker).running.client, process_of(reranker)
    process.kill()
    wait_until(lambda: gone(process))
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(reranker.score, "q", [text]) for text in TEXTS[:10]]
        wait_until(lambda: len(client._waiting) == len(calls))
        known.set()
        errors = [call.exception() for call in calls]
    assert {type(error) for error in errors} == {EngineError}
    assert all("was killed" in str(error) for error in errors)
    assert "socket.send" not in caplog.text  # asyncio's warning of repeated writes in vain


def test_a_stopped_process_is_ended(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(timeout=1)
    reranker.warm_up()
    process = process_of(reranker)
    process.suspend()
    with pytest.raises(EngineError, match="no sign of life for 1 s"):
        reranker.score("q", TEXTS)
    wait_until(lambda: gone(process))
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)


@given(timeout=st.floats(1, 1000), ready=st.booleans())
def test_a_silent_process_is_ended_when_the_time_is_up_that_the_message_names(
    timeout: float, ready: bool
) -> None:
    slept: list[float] = []
    words: list[str] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def ended(reason: str) -> None:
        words.append(reason)

    async def watch() -> None:
        client = EngineClient.__new__(EngineClient)  # without a process
        waiting = asyncio.get_running_loop().create_future()
        vars(client).update(_timeout=timeout, _ready=ready, _heard=True, _ended=ended)
        vars(client).update(_hello=waiting, _waiting={1: waiting})
        await client._watch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        asyncio.run(watch())
    silent = sum(slept[1:])  # it was heard in the first interval
    limit = timeout if ready else max(timeout, 60)
    assert limit * 0.999 <= silent <= limit + timeout / 4
    [reason] = words
    assert reason.startswith("the engine process gave no sign of life for ")
    assert float(reason.split()[-2]) == pytest.approx(silent, rel=1e-4)


def test_a_slow_engine_is_not_taken_for_a_stopped_one(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(timeout=1, engine_args={"step_seconds": 3})
    assert reranker.score("q", ["a"]) == expected(reranker, "q", ["a"])


def test_a_crash_loop_raises_the_engines_message(
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
    monkeypatch.setattr(failures, "_FIRST_PAUSE", 0.0)
    with pytest.raises(EngineError, match="did not start"):
        reranker.score("q", TEXTS)


def test_an_engine_that_dies_on_a_prompt_says_so(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"die_at": 77})
    reranker.warm_up()
    engine = engine_of(reranker)
    with pytest.raises(EngineError, match="was killed"):
        event_loop.run(engine.running.client.encode([[77]]))


def test_an_access_token_is_not_shown(make_reranker: MakeReranker) -> None:
    arguments = {"refuse": "no access with {hf_token}", "hf_token": SECRET}
    reranker = make_reranker(engine_args=arguments)
    with pytest.raises(EngineError, match=r"no access with \*\*\*") as caught:
        reranker.warm_up()
    assert_unseen(caught.value, SECRET)
    assert "hf_token': Secret('***')" in repr(engine_of(reranker).settings)


def test_the_engine_receives_the_access_token(make_reranker: MakeReranker, tmp_path: Path) -> None:
    arguments = {"arguments": str(tmp_path / "arguments"), "hf_token": SECRET}
    make_reranker(engine_args=arguments).warm_up()
    assert json.loads((tmp_path / "arguments").read_text())["hf_token"] == SECRET


def test_a_missing_library_is_named(make_reranker: MakeReranker) -> None:
    words = "libcudart.so.12: cannot open shared object file"
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_ERROR": words})
    with pytest.raises(EngineError, match=f"ImportError: {words}"):
        reranker.warm_up()


def test_an_unsupported_version_is_refused(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_VERSION": "0.11.0"})
    for _ in range(3):
        with pytest.raises(UnsupportedVersionError, match=r"vllm 0\.11\.0"):
            reranker.warm_up()
        assert not children()
    stages: list[str] = []
    with pytest.raises(EngineError, match=r"3 times in a row.*vllm 0\.11\.0"):
        reranker.warm_up(progress=stages.append)
    assert not stages  # no process was started
    assert reranker.stats().engines["default"].failures == 3


def test_what_is_no_engine_is_an_error(tmp_path: Path) -> None:
    """A program that writes something else into the socket, or that ends without a word."""
    for number, code in enumerate(["printf garbage >&$2; sleep 600", "echo my last words >&2"]):
        path = tmp_path / f"program-{number}"
        path.write_text(f"#!/bin/bash\n{code}\n")
        path.chmod(0o755)
        with (
            Reranker("demo", engine_python=str(path)) as reranker,
            pytest.raises(EngineError, match=["not a frame: b'garbage", "my last words"][number]),
        ):
            # The header is longer than the word.
            path.write_text(path.read_text().replace("garbage", "garbage" * 9))
            reranker.warm_up()
    assert not children()


def test_the_log_of_every_failed_start_is_kept(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(failures, "_FIRST_PAUSE", 0.0)
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


def test_an_unusable_frame_fails_all_waiting_calls(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = make_reranker()

    def fail(*_: object) -> str:
        raise KeyError("planted")

    monkeypatch.setattr(EngineClient, "_receive", fail)
    with pytest.raises(EngineError, match="cannot be used: KeyError"):
        reranker.warm_up()


def test_the_process_says_that_it_received_no_frame(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    reranker.warm_up()
    client = engine_of(reranker).running.client

    async def send_garbage() -> None:
        client._writer.write(b"garbage" * 9)

    event_loop.run(send_garbage())
    wait_until(lambda: client.reason)
    assert "the engine failed: received bytes that are not a frame: b'garbage" in client.reason


def test_a_process_that_closes_its_connection_and_goes_on_is_said_to(
    make_reranker: MakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineClient, "_exit_code", lambda _: None)
    reranker = make_reranker()
    reranker.warm_up()
    client = engine_of(reranker).running.client
    process_of(reranker).kill()
    wait_until(lambda: client.reason)
    assert "closed its connection, but did not exit within 1 s" in client.reason


@pytest.mark.parametrize("number", [signal.SIGABRT, 40])
def test_the_signal_that_ended_the_process_is_named(
    make_reranker: MakeReranker, tmp_path: Path, number: int
) -> None:
    begun = tmp_path / "begun"
    reranker = make_reranker(engine_args={"step_seconds": 600, "step_file": str(begun)})
    reranker.warm_up()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.score, "q", ["a"])
        wait_until(begun.exists)
        process_of(reranker).send_signal(number)
        words = "SIGABRT" if number == signal.SIGABRT else "signal 40"
        assert f"was ended by {words}" in str(call.exception(30))


def test_vllms_pointer_to_the_log_is_followed(make_reranker: MakeReranker) -> None:
    # vLLM 0.32's EngineDeadError
    words = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    with pytest.raises(EngineError, match=r"the root cause\.\n(?s:.*)raise RuntimeError"):
        make_reranker(engine_args={"refuse": words}).warm_up()


def test_a_token_that_the_tail_of_the_log_cuts_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_files, "TAIL", 30)
    log = tmp_path / "engine.log"
    log.write_text("before\naccess with hf_aBcDeFgHiJkL\n" + "x" * 22 + "\n")
    redactor = Redactor([Secret("hf_aBcDeFgHiJkL")])
    assert engine_files.last_lines(log, redactor) == ["x" * 22]


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
    for _ in range(3):
        with pytest.raises(EngineError, match=r"cannot be started.*TMPDIR.*/nowhere"):
            reranker.warm_up()
    assert reranker.stats().engines["default"].failures == 3
    with pytest.raises(EngineError, match=r"3 times in a row.*cannot be started.*/nowhere"):
        reranker.warm_up()


def test_no_documents_ask_nothing_of_the_engine(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    assert reranker.score("q", []) == []
    reranker.warm_up()
    engine = engine_of(reranker)
    assert event_loop.run(engine.running.client.encode([])) == []
    assert reranker.score("q", ["a"]) == expected(reranker, "q", ["a"])


def test_a_start_may_be_silent_for_longer_than_a_request(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(timeout=1, variables={"FAKE_VLLM_IMPORT_SECONDS": "600"})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reranker.warm_up)
        # Popen would wait for a fork that is stopped before it runs the program.
        wait_until(lambda: any(str(PROGRAM) in child.cmdline() for child in children()))
        [process] = children()
        process.suspend()
        time.sleep(3)  # the silence that is meant
        assert not call.done()
        reranker.close()
        assert isinstance(call.exception(30), ClosedError)
