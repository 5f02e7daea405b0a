"""The LangChain compressor without an engine: what a trace may do to its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document

from qwen3_reranker import InputError, Reranker
from qwen3_reranker.langchain import Qwen3Rerank

from support.helpers import AnsweringScorer, either
from support.scripted_server import ScriptedServer

DOCUMENTS = [Document("a"), Document("b"), Document("c")]


class Meddler(BaseCallbackHandler):
    """Empties what a traced run shows, as a handler that redacts traces may."""

    def on_chain_start(self, serialized: Any, inputs: dict[str, Any], **_: Any) -> None:
        inputs.clear()

    def on_chain_end(self, outputs: dict[str, Any], **_: Any) -> None:
        outputs.clear()


@pytest.mark.parametrize("method", ["compress_documents", "acompress_documents"])
async def test_a_handler_that_changes_the_trace_does_not_change_the_result(method: str) -> None:
    compressor = Qwen3Rerank(reranker=Reranker(scorer=AnsweringScorer(0.2, 0.9, 0.5)), top_n=2)
    kept = await either(method)(compressor, DOCUMENTS, "q", callbacks=[Meddler()])
    assert [document.page_content for document in kept] == ["b", "c"]
    assert [document.metadata["relevance_score"] for document in kept] == [0.9, 0.5]


@pytest.mark.parametrize("call", [either("compress_documents"), either("acompress_documents")])
@pytest.mark.parametrize("wrong", [None, 3, {"documents": DOCUMENTS}, "text"])
async def test_documents_that_are_no_list_are_named(call: Callable[..., Any], wrong: Any) -> None:
    compressor = Qwen3Rerank(reranker=Reranker(scorer=AnsweringScorer()))
    message = f"documents must be a list, not one {type(wrong).__name__}"
    with pytest.raises(InputError, match=message):
        await call(compressor, wrong, "q")


def test_max_length_reaches_the_prompt() -> None:
    settings: dict[str, Any] = {"tokenizer": "demo", "max_length": 150}
    with ScriptedServer() as server, Qwen3Rerank(base_url=server.url, **settings) as adapter:
        adapter.compress_documents([Document("shuffle " * 1000)], "How do I shuffle a list?")
        [ids] = server.asked()[-1].body["input"]
    assert len(ids) == 150
