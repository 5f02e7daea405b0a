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


def interrupted(*command: str, when: Callable[[], Any], stdin: str = "") -> tuple[int, str, str]:
    """
    Interrupt a command once `when()` is true, and return its exit code and its output.

    It has to end within 20 seconds: before what it waits for, which never comes, times out.
    """
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
        os.killpg(process.pid, signal.SIGINT)  # a terminal signals all that it runs
        output, errors = process.communicate(timeout=20)
        return process.returncode, output, errors
    finally:
        process.kill()


def check_interrupted(code: int, output: str, errors: str) -> None:
    assert (code, output, errors) == (130, "", "interrupted\n")
