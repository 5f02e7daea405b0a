"""The embedded engine in every form of program, and what is left when the program ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbclient
import nbformat
import psutil
import pytest

from qwen3_reranker import ForkError, Reranker

SCRIPT = textwrap.dedent("""
    from qwen3_reranker import Reranker
    reranker = Reranker("demo", engine_args={"enforce_eager": True})  # starts the sooner
    hits = reranker.rerank("join two paths", ["os.path.join joins two paths", "random noise"])
    print("HITS", sorted(hit.index for hit in hits))
""")

# Seconds for a program with an engine; it takes 15 where nothing else runs.
PATIENCE = 300


def finish(process: subprocess.Popen[str], stdin: str | None = None) -> tuple[str, str]:
    """Wait for a program; its engine's processes must be gone soon after it."""
    out, err = process.communicate(stdin, timeout=PATIENCE)
    deadline = time.monotonic() + 20
    while (left := session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, left
    return out, err


def session(pid: int) -> list[psutil.Process]:
    """Return the processes of the session that `pid` leads."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def start(*arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=cwd,
    )


def check(process: subprocess.Popen[str], stdin: str | None = None) -> None:
    out, err = finish(process, stdin)
    assert "HITS [0, 1]" in out, out + err
    assert process.returncode == 0, err
    for word in ("Traceback", "Error", "terminate called", "leaked"):
        assert word not in out + err, out + err
    assert "HITS" not in err, err


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    check(start("script.py", cwd=tmp_path))


def test_a_command_line_that_drops_its_reranker() -> None:
    # Its engine is stopped while the program ends.
    check(start("-c", SCRIPT + "del reranker"))


def test_a_repl() -> None:
    process = start("-i", "-q")
    out, err = finish(process, SCRIPT)
    assert "HITS [0, 1]" in out, out + err
    assert process.returncode == 0, err
    assert "Traceback" not in err, err


def test_a_notebook_cell(tmp_path: Path) -> None:
    cell = SCRIPT + textwrap.dedent("""
        import asyncio
        assert asyncio.get_running_loop()
        print("AWAITED", len(await reranker.arerank("join", ["a", "b"])))
    """)
    code = nbformat.v4.new_code_cell(cell)  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[code])  # type: ignore[no-untyped-call]
    nbclient.NotebookClient(notebook, timeout=PATIENCE).execute(cwd=str(tmp_path))
    printed = "".join(o.get("text", "") for o in notebook.cells[0].outputs)
    assert "HITS [0, 1]" in printed
    assert "AWAITED 2" in printed


def test_an_error_in_the_script_ends_it() -> None:
    process = start("-c", SCRIPT + "raise SystemExit(3)")
    out, err = finish(process)
    assert (process.returncode, "HITS" in out) == (3, True), err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_program_leaves_no_engine(number: signal.Signals) -> None:
    process = start("-u", "-c", SCRIPT + "import time; time.sleep(600)")
    assert process.stdout is not None
    assert "HITS" in process.stdout.readline()
    assert len(session(process.pid)) > 1
    process.send_signal(number)
    finish(process)
    assert process.returncode == -number


def test_a_fork_gets_a_clear_error(reranker: Reranker) -> None:
    before = reranker.score("join paths", ["os.path.join"])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            reranker.score("join paths", ["os.path.join"])
            os.write(write, b"a score")
        except ForkError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    message = os.read(read, 1000).decode()
    assert f"belongs to process {os.getpid()}, and this is its fork {child}" in message
    assert reranker.score("join paths", ["os.path.join"]) == pytest.approx(before, abs=1e-5)


def test_a_fork_that_ends_normally_leaves_the_parents_engine_alone() -> None:
    code = SCRIPT + textwrap.dedent("""
        import gc, os, sys
        child = os.fork()
        if child == 0:
            del reranker
            gc.collect()
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("AFTER", len(reranker.score("other", ["a", "b"])))
    """)
    process = start("-c", code)
    out, err = finish(process)
    assert "AFTER 2" in out, out + err
    assert process.returncode == 0, err
