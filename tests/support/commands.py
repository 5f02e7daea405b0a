"""Run the command as a shell does, and interrupt it as a terminal does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def run(
    *arguments: str, code: int = 0, stdin: str = "", encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_reranker", *arguments],
        input=stdin,
        capture_output=True,
        encoding=encoding,
        timeout=200,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def interrupted(
    *command: str, when: Callable[[], Any], stdin: str = ""
) -> tuple[int, float, str, str]:
    """Interrupt a command once `when()` is true; return its exit code, the seconds, its output."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(stdin)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # a terminal signals all that it runs
        output, errors = process.communicate(timeout=30)
        return process.returncode, time.monotonic() - started, output, errors
    finally:
        process.kill()


def check_interrupted(code: int, seconds: float, output: str, errors: str) -> None:
    assert (code, output, errors) == (130, "", "interrupted\n")
    assert seconds < 2
