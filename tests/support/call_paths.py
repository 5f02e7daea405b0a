"""The call path of a query: as explanation/architecture documents it, and as observed."""

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
Call = tuple[str, str]
"""A function and its module, as the page names them."""


def documented_calls(table: str) -> list[Call]:
    """Return the functions of a table in explanation/architecture, "embedded" or "remote"."""
    page = (DOCS / "explanation/architecture.md").read_text("utf-8")
    rows = page.partition(f"<!-- calls: {table} -->")[2].partition("<!-- end -->")[0]
    return re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|", rows, re.MULTILINE)


def actual_calls(
    monkeypatch: pytest.MonkeyPatch, last: type[Any], method: str, **settings: Any
) -> list[Call]:
    """
    Return the functions from `compress_documents` to a method, each of which calls the next.

    Args:
        monkeypatch: Replaces the functions that are watched, and restores them.
        last: The class of the last function.
        method: The name of the last function.
        **settings: The arguments of the adapter.
    """
    on_caller: list[list[Call]] = []
    on_loop: list[list[Call]] = []
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


def _stack() -> list[Call]:
    """Return the package's functions that are running on this thread, the outermost first."""
    calls: list[Call] = []
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_SOURCE):
            calls.append((code.co_qualname.partition(".<locals>")[0], _module(code.co_filename)))
        frame = frame.f_back  # type: ignore[assignment]
    return [call for call in reversed(calls) if call[0] != "_serve"]


def _module(file: str) -> str:
    return file.removeprefix(_SOURCE).removesuffix(".py").strip("/").replace("/", ".")
