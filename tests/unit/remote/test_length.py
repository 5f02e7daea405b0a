"""How long the prompts are that a server gets, by the length that it says its model takes."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer

from qwen3_reranker import Reranker
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support.scripted_server import (
    HANG,
    VLLM,
    Reply,
    Request,
    ScriptedServer,
    classify,
    relevance,
    rerank,
)

# What the scripted vLLM says its model takes.
LIMIT = 2048
TOKENIZER = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))


def score(request: Request) -> Reply:
    """vLLM's /v1/score, with the template on the client's side."""
    texts = request.body["text_2"]
    data = [
        {"index": index, "object": "score", "score": relevance(request.body["text_1"], text)}
        for index, text in enumerate(texts)
    ]
    return Reply({"object": "list", "data": data})


def lengths(body: dict[str, Any]) -> list[int]:
    """The tokens of each prompt of a request."""
    if "input" in body:
        return [len(ids) for ids in body["input"]]
    query = body["text_1"] if "text_1" in body else body["query"]
    documents = body["text_2"] if "text_2" in body else body["documents"]
    return [len(TOKENIZER.encode(query + text).ids) for text in documents]


@pytest.mark.parametrize(
    ("dialect", "path", "answer"),
    [
        ("vllm-classify", "/classify", classify),
        ("vllm-score", "/v1/score", score),
        ("vllm-rerank", "/v1/rerank", rerank),
        ("vllm-ascend", "/v1/rerank", rerank),
    ],
)
def test_no_prompt_is_as_long_as_the_model_of_a_vllm(dialect: str, path: str, answer: Any) -> None:
    longest: list[int] = []

    def as_027(request: Request) -> Reply:
        # vLLM 0.27 to 0.31 never answers a prompt of exactly the limit that takes several steps.
        longest.append(max(lengths(request.body)))
        return HANG if longest[-1] >= LIMIT else answer(request)

    document = "The capital of China is Beijing. " * LIMIT
    with ScriptedServer(VLLM) as server:
        server.script["POST", path] = as_027
        with Reranker(
            base_url=server.url, dialect=dialect, template="client", tokenizer="demo", timeout=20
        ) as reranker:
            assert f"max_length {LIMIT - 1}" in reranker.describe()
            assert len(reranker.score("What is the capital of China?", [document])) == 1
            # The whole of what is left is used.
            assert longest == [LIMIT - 1]


def test_a_token_is_left_for_the_answer_of_a_server_that_does_not_say_its_limit() -> None:
    given: dict[str, Any] = {"dialect": "vllm-classify", "template": "client", "tokenizer": "demo"}
    script = {("POST", "/classify"): classify}
    with ScriptedServer(script) as server, Reranker(base_url=server.url, **given) as reranker:
        assert "max_length 8191" in reranker.describe()
        reranker.score("river", ["river " * 9000])
        (request,) = server.asked()
        assert len(request.body["input"][0]) == 8191
