"""The way of a query through the package: as the documentation has it, and as it is."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from langchain_core.documents import Document

from qwen3_reranker import event_loop
from qwen3_reranker.langchain import Qwen3Rerank

from support.docs_pages import DOCS, ROOT

_SOURCE = str(ROOT / "src" / "qwen3_reranker")
Stop = tuple[str, str]
"""A function and its module, as the page names them."""


def documented_way(way: str) -> list[Stop]:
    """Return the stops of one of the tables in explanation/architecture."""
    page = (DOCS / "explanation/architecture.md").read_text("utf-8")
    table = page.partition(f"<!-- way: {way} -->")[2].partition("<!-- end -->")[0]
    return re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|", table, re.MULTILINE)


def traveled_way(
    monkeypatch: pytest.MonkeyPatch, last: type[Any], method: str, **settings: Any
) -> list[Stop]:
    """
    Return the functions from `compress_documents` to a method, each of which calls the next.

    Args:
        monkeypatch: Sets and restores what is watched.
        last: The class of the last stop.
        method: Its method's name.
        **settings: What the adapter is made from.
    """
    on_caller: list[list[Stop]] = []
    on_loop: list[list[Stop]] = []
    submit, ask = event_loop.submit, getattr(last, method)

    def watch_submit(coroutine: Any) -> Any:
        on_caller.append(_stack())
        return submit(coroutine)

    async def watch_last(*args: Any, **kwargs: Any) -> Any:
        on_loop.append(_stack())
        return await ask(*args, **kwargs)

    reranker = Qwen3Rerank(**settings)
    monkeypatch.setattr(event_loop, "submit", watch_submit)
    monkeypatch.setattr(last, method, watch_last)
    reranker.compress_documents([Document("os.mkdir: Create a directory.")], "Create a directory?")
    monkeypatch.undo()
    reranker.close()
    [caller] = on_caller
    # The last call is the query's own; those before it detect the server or start the engine.
    return [*caller, *on_loop[-1], (f"{last.__name__}.{method}", _module(ask.__code__.co_filename))]


def _stack() -> list[Stop]:
    """Return the package's functions that are running on this thread, the outermost first."""
    stops: list[Stop] = []
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_SOURCE):
            stops.append((code.co_qualname.partition(".<locals>")[0], _module(code.co_filename)))
        frame = frame.f_back  # type: ignore[assignment]
    return [stop for stop in reversed(stops) if stop[0] != "_serve"]


def _module(file: str) -> str:
    return file.removeprefix(_SOURCE).removesuffix(".py").strip("/").replace("/", ".")
