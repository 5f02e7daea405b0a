"""What a caller gets when scoring fails: the option `on_error`."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from langchain_core.documents import Document
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from qwen3_reranker import (
    ClosedError,
    EngineError,
    Hit,
    InputError,
    Passage,
    Reranker,
    RerankerWarning,
    ScoreError,
    Scores,
    ServerError,
    ServerUnavailableError,
)
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.helpers import DescendingScorer, FaultyScorer, either
from support.scripted_server import Reply, Request, ScriptedServer

QUERY = "Where does the river begin?"
DOCUMENTS = ["the sea", "Where the river begins.", "", "a river", "the sea"]
ORDER = [1, 3, 0, 4, 2]
BROKEN = Reply({"detail": "CUDA error"}, 500)
INSTRUCTION = "Given a question about rivers, find their springs"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def patient(server: ScriptedServer) -> Iterator[Reranker]:
    with Reranker(base_url=server.url, on_error="keep_order") as reranker:
        yield reranker.warm_up()


def kept(hits: list[Hit]) -> list[int]:
    """Return the places of hits that all were kept unscored."""
    for hit in hits:
        assert math.isnan(hit.score)
        assert hit.error
        assert "CUDA error" in hit.error
        assert hit.text == DOCUMENTS[hit.index]
        assert not hit.truncated
    return [hit.index for hit in hits]


# The reranker


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_the_order_is_kept_where_scoring_fails(
    server: ScriptedServer, patient: Reranker, call: Any
) -> None:
    assert [hit.index for hit in await call(patient, QUERY, DOCUMENTS)] == ORDER
    server.always(BROKEN)
    with pytest.warns(RerankerWarning, match="kept the order of 5 documents, unscored: .*CUDA"):
        assert kept(await call(patient, QUERY, DOCUMENTS)) == [0, 1, 2, 3, 4]
    with pytest.warns(RerankerWarning):
        assert kept(await call(patient, QUERY, DOCUMENTS, top_n=2, min_score=0.9)) == [0, 1]
    server.always(ScriptedServer().script["POST", "/classify"])
    hits = await call(patient, QUERY, DOCUMENTS)
    assert [hit.index for hit in hits] == ORDER
    assert {hit.error for hit in hits} == {None}


@pytest.mark.parametrize("call", [either("rerank_many"), either("arerank_many")])
async def test_of_many_queries_the_failing_ones_keep_their_order(
    server: ScriptedServer, patient: Reranker, call: Any
) -> None:
    def moody(request: Request) -> Reply:
        bad = any("<Query>: bad" in prompt for prompt in request.body["input"])
        return BROKEN if bad else ScriptedServer().script["POST", "/classify"](request)

    server.always(moody)
    pairs = [(QUERY, DOCUMENTS), ("bad", DOCUMENTS), (QUERY, DOCUMENTS), ("bad", [])]
    with pytest.warns(RerankerWarning):
        first, second, third, none = await call(patient, pairs, top_n=4)
    assert [hit.index for hit in first] == [hit.index for hit in third] == ORDER[:4]
    assert not any(hit.error for hit in first + third)
    assert kept(second) == [0, 1, 2, 3]
    assert none == []


async def test_every_failure_of_a_server_keeps_the_order(server: ScriptedServer) -> None:
    replies = {
        "no connection": None,
        "401": Reply({"error": "CUDA error"}, 401),
        "an answer without scores": Reply({"error": "CUDA error"}),
        "a page": Reply(b"<html>CUDA error</html>"),
        "too long": Reply({"error": {"message": "too long: CUDA error"}}, 400),
    }
    settings: Any = {"on_error": "keep_order", "max_retries": 0}
    async with Reranker(base_url=server.url, **settings) as reranker:
        await reranker.awarm_up()
        for reply in replies.values():
            if reply is not None:
                server.always(reply)
                with pytest.warns(RerankerWarning):
                    assert kept(await reranker.arerank(QUERY, DOCUMENTS)) == [0, 1, 2, 3, 4]
    server.__exit__()
    async with Reranker(base_url=server.url, **settings) as reranker:
        with pytest.warns(RerankerWarning, match="no connection"):
            assert len(await reranker.arerank(QUERY, DOCUMENTS)) == 5


class WrongScorer(DescendingScorer):
    """Returns what it was given, whatever is scored."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        return self.scores

    async def fingerprint(self) -> str:
        return "wrong"


WRONG_SCORES = {
    "a score that is NaN": Scores([math.nan], [False]),
    "too few scores": Scores([], []),
    "too many scores": Scores([0.5, 0.5], [False, False]),
    "too few truncated": Scores([0.5], []),
    "log-odds that are NaN": Scores([0.5], [False], [math.nan]),
    "too few log-odds": Scores([0.5], [False], []),
    "too many passages": Scores([0.5], [False], passages=[Passage(0, 1, 0.5, 1)] * 2),
}


@pytest.mark.parametrize(
    "options",
    [{}, {"cache": {}}, {"long_documents": "passages"}],
    ids=["plain", "cache", "passages"],
)
@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
@pytest.mark.parametrize("name", WRONG_SCORES)
async def test_wrong_scores_are_a_failure_of_scoring(
    name: str, call: Any, options: dict[str, Any]
) -> None:
    scorer = WrongScorer(WRONG_SCORES[name])
    patient = Reranker(scorer=scorer, on_error="keep_order", **options)
    with pytest.warns(RerankerWarning, match="kept the order of 1 documents, unscored"):
        (hit,) = await call(patient, QUERY, ["a"], min_score=0.5)
    assert math.isnan(hit.score)
    assert hit.error
    assert (patient.stats().queries, patient.stats().failures) == (1, 1)
    with pytest.raises(ScoreError):
        await patient.ascore(QUERY, ["a"])
    assert patient.stats().failures == 2
    with pytest.raises(ScoreError):
        await call(Reranker(scorer=scorer, **options), QUERY, ["a"])


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_an_error_without_a_message_keeps_the_order(call: Any) -> None:
    patient = Reranker(scorer=FaultyScorer(EngineError()), on_error="keep_order")
    with pytest.warns(RerankerWarning, match="the order of 2 documents, unscored: EngineError"):
        hits = await call(patient, QUERY, ["a", "a"], min_score=0.5, drop_duplicates=True)
    assert [hit.error for hit in hits] == ["EngineError"] * 2
    nodes = [NodeWithScore(node=TextNode(text="a"), score=0.5)]
    with pytest.warns(RerankerWarning):
        (node,) = LlamaIndexRerank(reranker=patient).postprocess_nodes(nodes, query_str=QUERY)
    assert (node.score, node.metadata) == (0.5, {"rerank_error": "EngineError"})


async def test_wrong_arguments_raise_in_any_case(server: ScriptedServer, patient: Reranker) -> None:
    wrong: list[tuple[Any, Any, dict[str, Any]]] = [
        ("  ", DOCUMENTS, {}),
        (QUERY, "text", {}),
        (QUERY, [3], {}),
        (QUERY, DOCUMENTS, {"top_n": 0}),
        (QUERY, DOCUMENTS, {"min_score": 2}),
        (QUERY, ["\ud800"], {}),
        ("\ud800", DOCUMENTS, {}),
        (QUERY, DOCUMENTS, {"instruction": "\ud800"}),
    ]
    for query, documents, limits in wrong:
        with pytest.raises(InputError):
            await patient.arerank(query, documents, **limits)
    server.always(BROKEN)
    with pytest.raises(ServerError, match="CUDA error"):
        patient.score(QUERY, DOCUMENTS)  # there are no scores to keep
    patient.close()
    with pytest.raises(ClosedError):
        patient.rerank(QUERY, DOCUMENTS)
    with pytest.raises(InputError, match="on_error='ignore'"):
        Reranker(base_url=server.url, on_error="ignore")  # type: ignore[arg-type]


async def test_on_error_raise_raises(server: ScriptedServer) -> None:
    async with Reranker(base_url=server.url) as reranker:
        await reranker.awarm_up()
        server.always(BROKEN)
        calls: list[Any] = [
            reranker.arerank(QUERY, DOCUMENTS),
            reranker.ascore(QUERY, DOCUMENTS),
            reranker.arerank_many([(QUERY, DOCUMENTS)]),
        ]
        for call in calls:
            with pytest.raises(ServerError, match="CUDA error"):
                await call
    server.script = dict.fromkeys(server.script, lambda _: BROKEN)
    for kind in (LangChainRerank, LlamaIndexRerank):
        with kind(base_url=server.url) as adapter, pytest.raises(ServerError):
            if isinstance(adapter, LangChainRerank):
                adapter.compress_documents([Document("text")], QUERY)
            else:
                node = NodeWithScore(node=TextNode(text="text"))
                adapter.postprocess_nodes([node], query_str=QUERY)


async def test_a_canceled_call_is_not_a_failure(server: ScriptedServer, patient: Reranker) -> None:
    server.always(Reply(wait=600))
    task = asyncio.create_task(patient.arerank(QUERY, DOCUMENTS))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# LangChain


@pytest.mark.parametrize("name", ["compress_documents", "acompress_documents"])
async def test_langchain_keeps_the_order_and_says_why(server: ScriptedServer, name: str) -> None:
    documents = [Document(text, metadata={"place": i}) for i, text in enumerate(DOCUMENTS)]
    with LangChainRerank(base_url=server.url, top_n=2, on_error="keep_order") as adapter:
        found = await either(name)(adapter, documents, QUERY)
        assert [document.metadata["place"] for document in found] == ORDER[:2]
        assert not any("rerank_error" in document.metadata for document in found)
        server.always(BROKEN)
        with pytest.warns(RerankerWarning):
            found = await either(name)(adapter, documents, QUERY)
        with pytest.raises(InputError):
            await either(name)(adapter, documents, " ")
    assert [document.page_content for document in found] == DOCUMENTS[:2]
    for place, document in enumerate(found):
        assert document.metadata.keys() == {"place", "rerank_error"}
        assert document.metadata["place"] == place
        assert "CUDA error" in document.metadata["rerank_error"]
    assert [document.metadata for document in documents] == [{"place": i} for i in range(5)]


@pytest.mark.parametrize("name", ["compress_documents", "acompress_documents"])
async def test_langchain_keeps_no_mark_of_an_earlier_call(
    server: ScriptedServer, name: str
) -> None:
    call = either(name)
    documents = [Document(text) for text in DOCUMENTS]
    with LangChainRerank(base_url=server.url, top_n=None, on_error="keep_order") as adapter:
        scored = await call(adapter, documents, QUERY)
        server.always(BROKEN)
        with pytest.warns(RerankerWarning):
            failed = await call(adapter, scored, QUERY)
        server.always(ScriptedServer().script["POST", "/classify"])
        again = await call(adapter, failed, QUERY)
    first = [document.metadata["relevance_score"] for document in scored]
    assert {tuple(document.metadata) for document in scored} == {("relevance_score",)}
    assert {tuple(document.metadata) for document in failed} == {
        ("retrieval_score", "rerank_error")
    }
    # To a second call, the score of the first one is that of a retriever.
    assert [document.metadata for document in again] == [
        {"retrieval_score": score, "relevance_score": score} for score in first
    ]


# LlamaIndex


@pytest.mark.parametrize("retrieval", [True, False])
@pytest.mark.parametrize("name", ["postprocess_nodes", "apostprocess_nodes"])
async def test_llama_index_keeps_no_mark_of_an_earlier_call(
    server: ScriptedServer, name: str, *, retrieval: bool
) -> None:
    call = either(name)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in DOCUMENTS]
    with LlamaIndexRerank(
        base_url=server.url, top_n=None, on_error="keep_order", keep_retrieval_score=retrieval
    ) as adapter:
        scored = await call(adapter, nodes, query_str=QUERY)
        server.always(BROKEN)
        with pytest.warns(RerankerWarning):
            failed = await call(adapter, nodes, query_str=QUERY)
        before = [node.model_dump() for node in failed]
        server.always(ScriptedServer().script["POST", "/classify"])
        again = await call(adapter, failed, query_str=QUERY)
    assert all("rerank_error" in node.metadata for node in failed)
    assert [node.model_dump() for node in again] == [node.model_dump() for node in scored]
    assert [node.model_dump() for node in failed] == before


class RecordingScorer(DescendingScorer):
    """Keeps the texts that it is given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.seen = list(texts)
        return await super().score(query, texts, instruction)


@pytest.mark.parametrize("name", ["postprocess_nodes", "apostprocess_nodes"])
async def test_llama_index_scores_no_mark_of_an_earlier_call(name: str) -> None:
    call = either(name)
    # An entry of the caller's is scored, even if its name is that of a mark.
    own = {"place": 1, "rerank_cut": "no"}
    node = TextNode(text="word " * 30, metadata=own, excluded_embed_metadata_keys=["place"])
    nodes = [NodeWithScore(node=node, score=0.5)]
    scorer = RecordingScorer()
    reranker = Reranker(
        scorer=scorer, on_error="keep_order", long_documents="passages", passage_tokens=512
    )
    adapter = LlamaIndexRerank(
        reranker=reranker, metadata_mode=MetadataMode.ALL, keep_retrieval_score=True
    )
    marked = await call(adapter, nodes, query_str=QUERY)
    fresh = scorer.seen
    assert fresh == [f"place: 1\nrerank_cut: no\n\n{'word ' * 30}".rstrip()]
    assert marked[0].metadata.keys() == {"place", "rerank_cut", "rerank_passage", "retrieval_score"}
    scorer.broken = True
    with pytest.warns(RerankerWarning):
        failed = await call(adapter, nodes, query_str=QUERY)
    assert failed[0].metadata.keys() == {"place", "rerank_cut", "rerank_error", "retrieval_score"}
    scorer.broken = False
    for again in (marked, failed):
        before = [node.model_dump() for node in again]
        await call(adapter, again, query_str=QUERY)
        assert scorer.seen == fresh
        assert [node.model_dump() for node in again] == before


@pytest.mark.parametrize("retrieval", [True, False])
@pytest.mark.parametrize("name", ["postprocess_nodes", "apostprocess_nodes"])
async def test_llama_index_keeps_order_and_retrieval_scores(
    server: ScriptedServer, name: str, *, retrieval: bool
) -> None:
    nodes = [
        NodeWithScore(node=TextNode(text=text, metadata={"place": i}), score=0.9 - i / 10)
        for i, text in enumerate(DOCUMENTS)
    ]
    before = [node.model_dump() for node in nodes]
    call = either(name)
    with LlamaIndexRerank(
        base_url=server.url,
        top_n=3,
        on_error="keep_order",
        metadata_mode=MetadataMode.NONE,
        keep_retrieval_score=retrieval,
    ) as adapter:
        found = await call(adapter, nodes, query_str=QUERY)
        assert [node.metadata["place"] for node in found] == ORDER[:3]
        server.always(BROKEN)
        with pytest.warns(RerankerWarning):
            found = await call(adapter, nodes, query_str=QUERY)
        with pytest.raises(InputError):
            await call(adapter, nodes, query_str=" ")
    assert [node.metadata["place"] for node in found] == [0, 1, 2]
    assert [node.score for node in found] == [node.score for node in nodes[:3]]
    told = {"place", "rerank_error"} | ({"retrieval_score"} if retrieval else set())
    for node in found:
        assert node.metadata.keys() == told
        assert "CUDA error" in node.metadata["rerank_error"]
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert "CUDA error" not in node.node.get_content(metadata_mode=mode)
    assert [node.model_dump() for node in nodes] == before


# What an HTTP client raises that is no error of HTTP


class FailingTransport(httpx.AsyncBaseTransport):
    """Pass requests on until `error` is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._transport = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.error is not None:
            raise self.error
        return await self._transport.handle_async_request(request)


CLIENT_ERRORS: dict[str, Exception] = {
    "a stream error": httpx.StreamClosed(),
    "an OS error": OSError(24, "Too many open files"),
    "a runtime error": RuntimeError("this event loop is not the client's"),
    "a host that cannot be encoded": UnicodeError("label empty or too long"),
}


@pytest.mark.parametrize("name", CLIENT_ERRORS)
def test_any_error_of_a_custom_client_becomes_a_server_error(
    server: ScriptedServer, name: str
) -> None:
    transport = FailingTransport()
    client = httpx.AsyncClient(transport=transport)
    settings: dict[str, Any] = {"http_client": client, "max_retries": 0}
    with (
        Reranker(base_url=server.url, **settings, on_error="keep_order") as patient,
        Reranker(base_url=server.url, **settings) as strict,
    ):
        assert [hit.index for hit in patient.rerank(QUERY, DOCUMENTS)] == ORDER
        transport.error = CLIENT_ERRORS[name]
        with pytest.raises(ServerUnavailableError, match=re.escape(str(transport.error))):
            strict.warm_up()
        with pytest.warns(RerankerWarning, match="kept the order"):
            hits = patient.rerank(QUERY, DOCUMENTS)
    assert [hit.index for hit in hits] == [0, 1, 2, 3, 4]


async def test_a_client_that_was_closed_is_named(server: ScriptedServer) -> None:
    client = httpx.AsyncClient()
    async with Reranker(base_url=server.url, http_client=client, on_error="keep_order") as reranker:
        assert [hit.index for hit in await reranker.arerank(QUERY, DOCUMENTS)] == ORDER
        await client.aclose()
        with pytest.warns(RerankerWarning, match="http_client= has been closed: keep it open"):
            hits = await reranker.arerank(QUERY, DOCUMENTS)
    assert [hit.index for hit in hits] == [0, 1, 2, 3, 4]
