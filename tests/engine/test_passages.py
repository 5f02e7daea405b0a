"""Long documents are scored by their passages, with a real engine and in both frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from qwen3_reranker import Reranker
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.helpers import SETTINGS, either

QUERY = "How do I create a directory?"
ANSWER = "os.mkdir(path): Create a directory named path."
LINES = [
    "math.sqrt(x): Return the square root of x.",
    "time.sleep(secs): Suspend execution of the calling thread.",
    "json.dumps(obj): Serialize obj to a JSON formatted string.",
]
WITHOUT = "\n\n".join(LINES * 40)
HIDDEN = "\n\n".join([*LINES * 30, ANSWER, *LINES * 10])
# The demo model knows short texts only.
PASSAGES: dict[str, Any] = {
    "long_documents": "passages",
    "passage_tokens": 18,
    "passage_overlap": 0,
}


@pytest.fixture(scope="module")
def passages() -> Iterator[Reranker]:
    with Reranker(**SETTINGS, **PASSAGES) as reranker:
        yield reranker


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_a_hidden_answer_is_found(passages: Reranker, reranker: Reranker, call: Any) -> None:
    best, other = await call(passages, QUERY, [WITHOUT, HIDDEN])
    assert (best.index, best.truncated) == (1, False)
    found = HIDDEN[best.passage.start : best.passage.end]
    assert ANSWER in found
    assert best.score == best.passage.score > 0.7 > 0.2 > other.score
    assert best.passage.count > 80
    # It scores as the same text does by itself, and the document as a whole does not.
    assert reranker.score(QUERY, [found]) == pytest.approx([best.score], abs=1e-4)
    assert reranker.score(QUERY, [HIDDEN])[0] < 0.5


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"max_passages": 4}, 0.7, 1),
        ({"aggregate": "mean_top_3"}, 0.2, 0.6),
        ({"aggregate": "mean"}, 0, 0.1),
        ({"aggregate": "first"}, 0, 0.1),
        ({"aggregate": lambda scores: scores[-1]}, 0, 0.1),
    ],
)
async def test_aggregates_and_bounds(options: dict[str, Any], low: float, high: float) -> None:
    async with Reranker(**SETTINGS, **PASSAGES, **options) as reranker:
        (hit,) = await reranker.arerank(QUERY, [HIDDEN])
    assert low <= hit.score <= high
    assert hit.passage is not None
    if options.get("aggregate") != "first":
        assert ANSWER in HIDDEN[hit.passage.start : hit.passage.end]


def test_short_documents_score_as_before(reranker: Reranker) -> None:
    with Reranker(**SETTINGS, long_documents="passages") as passages:
        hits = passages.rerank(QUERY, [*LINES, ANSWER])
    before = reranker.rerank(QUERY, [*LINES, ANSWER])
    assert [hit.index for hit in hits] == [hit.index for hit in before]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in before], abs=1e-5)
    assert [hit.logit for hit in hits] == pytest.approx([hit.logit for hit in before], abs=1e-3)


async def test_streams_of_queries(passages: Reranker) -> None:
    pairs = [(QUERY, [WITHOUT, HIDDEN]), ("How do I wait?", [HIDDEN])]
    many = [hits async for hits in passages.arerank_iter(pairs)]
    assert [hits[0].index for hits in many] == [1, 0]
    assert passages.stats().passages >= 250
    waiting = many[1][0].passage
    assert waiting is not None
    assert "time.sleep" in HIDDEN[waiting.start : waiting.end]


@pytest.mark.parametrize("call", [either("compress_documents"), either("acompress_documents")])
@pytest.mark.parametrize("returns", ["document", "passage"])
async def test_langchain(call: Any, returns: Any) -> None:
    documents = [Document(WITHOUT, id="a"), Document(HIDDEN, id="b", metadata={"title": "Manual"})]
    with LangChainRerank(
        **SETTINGS,
        **PASSAGES,
        top_n=1,
        returns=returns,
        document_template="{title}\n{page_content}",
    ) as adapter:
        (best,) = await call(adapter, documents, QUERY)
    span = best.metadata["rerank_passage"]
    passage = HIDDEN[span["start"] : span["end"]]
    assert ANSWER in passage
    assert (best.id, best.metadata["title"]) == ("b", "Manual")
    assert best.page_content == (HIDDEN if returns == "document" else passage)


@pytest.mark.parametrize("call", [either("postprocess_nodes"), either("apostprocess_nodes")])
@pytest.mark.parametrize("returns", ["document", "passage"])
async def test_llama_index(call: Any, returns: Any) -> None:
    nodes = [
        NodeWithScore(node=TextNode(text=WITHOUT, id_="a")),
        NodeWithScore(node=TextNode(text=HIDDEN, id_="b", metadata={"title": "Manual"})),
    ]
    with LlamaIndexRerank(**SETTINGS, **PASSAGES, top_n=1, returns=returns) as adapter:
        (best,) = await call(adapter, nodes, query_str=QUERY)
    span = best.node.metadata["rerank_passage"]
    passage = HIDDEN[span["start"] : span["end"]]
    assert ANSWER in passage
    assert best.node_id == "b"
    content = best.node.get_content(metadata_mode=MetadataMode.NONE)
    assert content == (HIDDEN if returns == "document" else passage)
    assert "rerank_passage" not in best.node.get_content(metadata_mode=MetadataMode.LLM)
