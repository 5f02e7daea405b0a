"""The engine process of programs that end, fork or are interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwen3_reranker import ForkError, Reranker

from support.engine_processes import (
    TEXTS,
    MakePython,
    MakeReranker,
    children,
    engine_of,
    expected,
    gone,
    process_of,
    wait_until,
)

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys, time
from qwen3_reranker import Reranker
reranker = Reranker("demo", check=False, quiet=True, engine_python={python!r}, devices={devices})
"""


def run_program(python: str, code: str, devices: list[int] | None = None) -> subprocess.Popen[str]:
    program = PROGRAM.format(python=python, devices=devices) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def never_imported(make_python: MakePython, folder: Path) -> str:
    """Return an interpreter that takes ten minutes to import vLLM, see `imports()`."""
    (folder / "imports").mkdir()
    return make_python(
        FAKE_VLLM_IMPORT_SECONDS="600", FAKE_VLLM_IMPORT_FOLDER=str(folder / "imports")
    )


def imports(folder: Path) -> int:
    """Return how many engine processes have begun to import vLLM."""
    return len(list((folder / "imports").iterdir()))


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
    wait_until(lambda: not session(program.pid))
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_start_ends_with_its_program(
    make_python: MakePython, tmp_path: Path, number: int
) -> None:
    program = run_program(never_imported(make_python, tmp_path), "reranker.warm_up()")
    wait_until(lambda: imports(tmp_path) == 1)
    program.send_signal(number)
    _, err = program.communicate(timeout=30)
    wait_until(lambda: not session(program.pid))
    assert "never" not in err, err


@pytest.mark.parametrize(("devices", "engines"), [(None, 1), ([0, 1], 2)])
def test_an_interrupted_call_ends_the_start_in_a_program_that_goes_on(
    make_python: MakePython, tmp_path: Path, devices: list[int] | None, engines: int
) -> None:
    code = """
    try:
        reranker.score("q", ["a"])
    except KeyboardInterrupt:
        print("INTERRUPTED")
    time.sleep(600)
    """
    program = run_program(never_imported(make_python, tmp_path), code, devices)
    wait_until(lambda: imports(tmp_path) == engines)
    assert len(session(program.pid)) == 1 + engines
    program.send_signal(signal.SIGINT)
    wait_until(lambda: len(session(program.pid)) == 1)
    program.kill()
    out, err = program.communicate()
    assert (out, err) == ("INTERRUPTED\n", "")


async def test_a_canceled_caller_leaves_the_start_to_the_next(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "1"})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reranker.awarm_up()
    [process] = children()
    await reranker.awarm_up()
    assert process_of(reranker) == process


@pytest.mark.parametrize("devices", [None, [0, 1]])
def test_a_fork_of_a_running_engines_program_gets_a_clear_error(
    make_reranker: MakeReranker, devices: list[int] | None
) -> None:
    reranker = make_reranker(devices=devices, variables={"FAKE_VLLM_DEVICE": "cuda"})
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
    pair: list[int] = []
    still_open: list[str] = []
    make_pair, start = socket.socketpair, subprocess.Popen

    def socketpair() -> tuple[socket.socket, socket.socket]:
        made = make_pair()
        pair[:] = [end.fileno() for end in made]
        return made

    def popen(*args: Any, **options: Any) -> Any:
        if "pass_fds" in options:
            still_open.append(in_fork(lambda: [fd for fd in pair if is_socket(fd)]))
        return start(*args, **options)

    def is_socket(fd: int) -> bool:
        return Path(f"/proc/self/fd/{fd}").is_socket()

    monkeypatch.setattr(socket, "socketpair", socketpair)
    monkeypatch.setattr(subprocess, "Popen", popen)
    make_reranker().warm_up()
    assert len(pair) == 2 and still_open == ["[]"]


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
