"""What the tests of the LangChain compressor share."""

from __future__ import annotations

import inspect
import json
import random
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain_core.documents import Document

QUERY = "How do I shuffle a list in place?"

Compress = Callable[..., Awaitable[list[Document]]]


def make_documents() -> list[Document]:
    found: list[Any] = [shutil.copytree, threading.Lock, random.shuffle, json.loads, sys.getsizeof]
    return [
        Document(
            f"{each.__name__}\n\n{inspect.getdoc(each)}",
            id=f"id-{place}",
            metadata={"title": each.__name__, "place": place, "nested": {"seen": [place]}},
        )
        for place, each in enumerate(found)
    ]


def scores_of(documents: Sequence[Document], key: str = "relevance_score") -> list[float]:
    return [document.metadata[key] for document in documents]


def texts_of(documents: Sequence[Document]) -> list[str]:
    return [document.page_content for document in documents]
