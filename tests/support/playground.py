"""A playground in the process of a test, whose scores follow from the texts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qwen3_reranker import Prompt, Reranker, Scorer, Scores
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.playground.inputs import Inputs
from qwen3_reranker.usage import Usage

from support.scripted_server import relevance

if TYPE_CHECKING:
    import gradio as gr

QUERY = "copy a folder"
DOCUMENTS = ["random.shuffle(x): Shuffle list x.", "copy a folder with copytree", "copy a file"]
INPUTS = Inputs(query=QUERY, text="\n\n".join(DOCUMENTS))


class PageScorer(Scorer):
    """
    Scores by the words that a text shares with the query and the instruction.

    Attributes:
        error: Raised instead of scoring.
        hold: Scoring waits until this event is set.
        cancelled: Set when a call was canceled while it waited.
    """

    def __init__(self, model: str = "scripted") -> None:
        self.model = model
        self.error: Exception | None = None
        self.hold: threading.Event | None = None
        self.waiting = threading.Event()
        self.cancelled = threading.Event()
        self.calls: list[tuple[str, list[str], str | None]] = []
        self._builder = PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.calls.append((query, list(texts), instruction))
        try:
            while self.hold is not None and not self.hold.is_set():
                self.waiting.set()
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        values = [relevance(query, text, instruction) for text in texts]
        usage = Usage(scored=len(texts), tokens=sum(self._builder.count(texts)))
        return Scores(values, [len(text) > 5000 for text in texts], usage=usage)

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return self._builder.prompt(query, document, instruction)

    async def prompt_builder(self) -> PromptBuilder:
        return self._builder


def rerankers(*scorers: PageScorer) -> list[Reranker]:
    """Return two rerankers for each scorer, one of which scores passages."""
    return [
        reranker
        for scorer in scorers
        for reranker in (
            Reranker(scorer=scorer),
            Reranker(scorer=scorer, long_documents="passages", passage_tokens=16),
        )
    ]


@contextmanager
def served(page: gr.Blocks) -> Iterator[str]:
    """Serve a page on a thread; yield its URL."""
    from qwen3_reranker.addresses import listen
    from qwen3_reranker.app_server import AppServer
    from qwen3_reranker.playground import page_app

    started = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        server = AppServer(page_app(page), listener, started.set)
        thread = threading.Thread(target=server.run_here)
        thread.start()
        try:
            assert started.wait(60)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.stop()
            thread.join(30)
            assert not thread.is_alive()
