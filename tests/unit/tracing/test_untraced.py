"""Programs that do not trace, and calls in which tracing is suppressed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from openinference.instrumentation import suppress_tracing
from opentelemetry import trace

from qwen3_reranker import (
    Reranker,
)

from support.helpers import either
from support.scripted_server import ScriptedServer
from support.spans import (
    Spans,
)

QUERY = "a secret question"
TEXTS = ["first secret", "second secret", "third secret"]
RERANK = ["rerank", "arerank"]
SCORE = ["score", "ascore"]
MANY = ["rerank_many", "arerank_many"]


@pytest.mark.parametrize("method", [*RERANK, *SCORE, *MANY])
async def test_tracing_can_be_suppressed(
    spans: Spans, remote: Reranker, server: ScriptedServer, method: str
) -> None:
    with suppress_tracing():
        await either(method)(remote, *([[(QUERY, TEXTS)]] if method in MANY else [QUERY, TEXTS]))
    assert spans.all == []
    assert "traceparent" not in server.requests[-1].headers


def test_without_a_provider_nothing_is_recorded_or_sent(
    remote: Reranker, server: ScriptedServer
) -> None:
    """This process has imported opentelemetry, but configured no provider."""
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    remote.rerank(QUERY, TEXTS)
    assert "traceparent" not in server.requests[-1].headers


PROGRAM = """
import sys
from support.helpers import AnsweringScorer
from qwen3_reranker import Reranker

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("opentelemetry", "openinference"):
            raise ModuleNotFoundError(name, name=name)

SETUP
with Reranker(scorer=AnsweringScorer(0.5)) as reranker:
    print(reranker.rerank("query", ["text"])[0].score)
    print(reranker.rerank_many([("query", ["text"])])[0][0].score)
    if "qwen3_reranker.langchain" in sys.modules:
        adapter = qwen3_reranker.langchain.Qwen3Rerank(reranker=reranker)
        adapter.compress_documents([langchain_core.documents.Document("text")], "query")
        nodes = [llama_index.core.schema.NodeWithScore(
            node=llama_index.core.schema.TextNode(text="text"))]
        adapter = qwen3_reranker.llama_index.Qwen3Rerank(reranker=reranker)
        adapter.postprocess_nodes(nodes, query_str="query")
print([name for name in sys.modules if name.startswith(("opentelemetry", "openinference"))])
"""
ADAPTERS = """
sys.meta_path.insert(0, Missing())
import langchain_core.documents
import llama_index.core.schema
import qwen3_reranker.langchain
import qwen3_reranker.llama_index
"""


@pytest.mark.slow
@pytest.mark.parametrize("setup", ["", ADAPTERS], ids=["not imported", "not installed"])
def test_opentelemetry_is_neither_imported_nor_needed(setup: str) -> None:
    """LangSmith, a dependency of LangChain, imports opentelemetry where it is installed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("SETUP", setup)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.stdout.split("\n")[:3] == ["0.5", "0.5", "[]"], done.stderr
