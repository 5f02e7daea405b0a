"""Features of a request that a server lacks: reported once, or an error."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

from qwen3_reranker import (
    Reranker,
    RerankerWarning,
    UnsupportedFeatureError,
)
from qwen3_reranker.model.probe import NEGATION

from support.scripted_server import Reply, Request, ScriptedServer, relevance, rerank

QUERY = "Where does the river begin?"
DOCUMENTS = ["the sea", "Where the river begins.", "", "a river", "the sea"]
ORDER = [1, 3, 0, 4, 2]
BROKEN = Reply({"detail": "CUDA error"}, 500)
INSTRUCTION = "Given a question about rivers, find their springs"


# Instructions that a server does not read


def honoring(request: Request) -> Reply:
    reply = rerank(request)
    if request.body.get("instruction") == NEGATION:
        for result in reply.body["results"]:
            result["relevance_score"] = 1 - result["relevance_score"]
    return reply


def ignoring(request: Request) -> Reply:
    request.body.pop("instruction", None)
    return rerank(request)


def llama_cpp(server: ScriptedServer) -> dict[str, Any]:
    """As llama-server: it writes the template, and has no field for an instruction."""
    props = {"default_generation_settings": {}, "total_slots": 1}
    server.script = {
        ("GET", "/props"): lambda _: Reply(props),
        ("GET", "/v1/models"): lambda _: Reply({"object": "list", "data": []}),
        ("POST", "/v1/rerank"): ignoring,
    }
    return {"base_url": server.url}


def vllm_with_template(server: ScriptedServer) -> dict[str, Any]:
    server.always(ignoring, "/v1/rerank")
    return {"base_url": server.url, "dialect": "vllm-rerank", "template": "server"}


@pytest.mark.parametrize("kind", [llama_cpp, vllm_with_template])
def test_an_ignored_instruction_is_warned_about_once(server: ScriptedServer, kind: Any) -> None:
    with Reranker(**kind(server), instruction=INSTRUCTION) as reranker:
        with pytest.warns(RerankerWarning, match="does not use it") as caught:
            first = reranker.score(QUERY, DOCUMENTS)
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert reranker.score(QUERY, DOCUMENTS) == first
    assert first == [relevance(QUERY, text) if text else 0.0 for text in DOCUMENTS]


@pytest.mark.parametrize("kind", [llama_cpp, vllm_with_template])
@pytest.mark.parametrize("on_error", ["raise", "keep_order"])
def test_an_ignored_instruction_can_be_an_error(
    server: ScriptedServer, kind: Any, on_error: Any
) -> None:
    settings = {**kind(server), "on_unsupported": "raise", "on_error": on_error}
    with Reranker(**settings) as reranker:
        with pytest.raises(UnsupportedFeatureError, match="does not use it"):
            reranker.rerank(QUERY, DOCUMENTS, instruction=INSTRUCTION)
        assert [hit.index for hit in reranker.rerank(QUERY, DOCUMENTS)] == ORDER


def test_of_several_servers_the_one_that_reads_no_instruction_is_named(
    server: ScriptedServer,
) -> None:
    """The first one writes it into the prompt; the second gets the work once that one is gone."""
    with ScriptedServer() as other:
        urls = [server.url, llama_cpp(other)["base_url"]]
        with Reranker(base_url=urls, instruction=INSTRUCTION) as reranker:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                reranker.score(QUERY, ["a river"])
            server.script.clear()
            server.always(BROKEN)
            with pytest.warns(RerankerWarning, match=f"{other.url} does not use it"):
                reranker.score(QUERY, ["a river"])


async def test_whether_an_instruction_is_read_is_measured_once(
    server: ScriptedServer,
) -> None:
    settings = vllm_with_template(server)
    server.always(honoring, "/v1/rerank")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with Reranker(**settings, on_unsupported="raise") as reranker:
            calls = (
                reranker.ascore(QUERY, ["a river"], instruction=INSTRUCTION) for _ in range(30)
            )
            found = await asyncio.gather(*calls)
            assert await reranker.ascore(QUERY, ["a river"]) == [relevance(QUERY, "a river")]
    assert found == [[relevance(QUERY, "a river", INSTRUCTION)]] * 30
    assert len(server.asked("/v1/rerank")) == 34  # three of them to find out


def test_an_instruction_that_the_client_writes_is_always_read(server: ScriptedServer) -> None:
    with (
        warnings.catch_warnings(),
        Reranker(base_url=server.url, on_unsupported="raise", instruction=INSTRUCTION) as reranker,
    ):
        warnings.simplefilter("error")
        found = reranker.score(QUERY, ["a river"])
    assert found == [relevance(QUERY, "a river", INSTRUCTION)]


def test_max_length_without_a_tokenizer_is_warned_about(server: ScriptedServer) -> None:
    settings = llama_cpp(server)
    with (
        Reranker(**settings, max_length=512) as reranker,
        pytest.warns(RerankerWarning, match="no tokenizer to count tokens with"),
    ):
        reranker.score(QUERY, DOCUMENTS)
    with (
        Reranker(**settings, max_length=512, on_unsupported="raise") as reranker,
        pytest.raises(UnsupportedFeatureError, match="no tokenizer"),
    ):
        reranker.score(QUERY, DOCUMENTS)
