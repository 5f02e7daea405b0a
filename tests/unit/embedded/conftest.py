"""Real engine processes, with tests/support/fake_vllm in the place of vLLM."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.embedded.engine_registry import active_engines

from support.engine_processes import SUPPORT, MakePython, other_engines, other_processes


@pytest.fixture
def make_python(tmp_path: Path) -> MakePython:
    """Return a function that writes an interpreter which finds the stand-in for vLLM."""

    def make(**variables: str) -> str:
        path = tmp_path / f"python-{len(list(tmp_path.iterdir()))}"
        settings = {"PYTHONPATH": str(SUPPORT / "fake_vllm"), **variables}
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


@pytest.fixture(autouse=True)
def note_others() -> None:
    """Take note of what other tests have left running, such as the session's engine."""
    other_processes.clear()
    other_processes.update(psutil.Process().children())
    other_engines.clear()
    other_engines.update(active_engines())
