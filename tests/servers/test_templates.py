"""The servers of the tests, held to the model card's recipe: a wrong server would prove nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION

from support.helpers import INSTRUCTION
from support.servers.litellm_servers import JINA, MODEL
from support.servers.processes import Server

QUERY = "How do I sort a list?"
DOCUMENTS = [
    "list.sort() sorts the list in place.",
    "sorted(iterable) returns a new sorted list from the items in iterable.",
    "The os module talks to the operating system.",
    "Lists are mutable sequences, typically used to store collections of homogeneous items.",
    "heapq.nsmallest(n, iterable)\n\nReturns a list with the n smallest elements.",
    "  indented, and with a newline behind\n",
    "A <b>tag</b> & an entity &amp; stay as they are.",
    "{{ braces }} {% and percent signs %} too",
    "リストを並べ替えるには sort() を使います。🐍",
    "x",
]
INSTRUCTIONS = [None, INSTRUCTION]
CLOSE = 2e-3


@pytest.fixture(scope="session")
def prompts() -> PromptBuilder:
    return PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def reference() -> TransformersScorer:
    return TransformersScorer("demo", dtype="float32")


async def expected(reference: TransformersScorer, instruction: str | None) -> Any:
    scores = await reference.score(QUERY, DOCUMENTS, instruction)
    return pytest.approx(scores.values, abs=CLOSE)


def post(server: Server, path: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {server.key}"} if server.key else {}
    answer = httpx.post(server.url + path, json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, f"{answer.text}\n{server.log()[-2000:]}"
    return answer.json()


def in_order(results: list[dict[str, Any]], name: str) -> list[float]:
    return [result[name] for result in sorted(results, key=lambda result: int(result["index"]))]


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_vllm_writes_the_prompt(
    vllm_template: Server, reference: TransformersScorer, path: str, instruction: str | None
) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "instruction": instruction}
    results = post(vllm_template, path, body)["results"]
    assert in_order(results, "relevance_score") == await expected(reference, instruction)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
async def test_litellm_forwards(
    litellm: Server, reference: TransformersScorer, instruction: str | None
) -> None:
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "instruction": instruction}
    results = post(litellm, "/v1/rerank", body)["results"]
    assert in_order(results, "relevance_score") == await expected(reference, instruction)


async def test_litellm_drops_the_instruction_on_the_way_to_jina(
    litellm: Server, reference: TransformersScorer
) -> None:
    body = {"model": JINA, "query": QUERY, "documents": DOCUMENTS, "instruction": INSTRUCTION}
    results = post(litellm, "/v1/rerank", body)["results"]
    assert in_order(results, "relevance_score") == await expected(reference, None)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
async def test_sglang_writes_the_prompt(
    sglang_causal: Server, reference: TransformersScorer, instruction: str | None
) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "instruct": instruction}
    results = post(sglang_causal, "/v1/rerank", body)
    assert in_order(results, "score") == await expected(reference, instruction)


def test_vllms_template_gives_the_clients_token_ids(
    vllm_template: Server, prompts: PromptBuilder
) -> None:
    for document in DOCUMENTS:
        roles = {"query": QUERY, "document": document}
        messages = [{"role": role, "content": content} for role, content in roles.items()]
        tokens = post(vllm_template, "/tokenize", {"messages": messages})["tokens"]
        assert tokens == prompts.encode(QUERY, [document], DEFAULT_INSTRUCTION)[0].ids


@pytest.mark.parametrize("server", ["vllm_original", "vllm_one_label", "vllm_key"], indirect=True)
async def test_vllm_takes_ids(
    server: Server, reference: TransformersScorer, prompts: PromptBuilder
) -> None:
    ids = [prompt.ids for prompt in prompts.encode(QUERY, DOCUMENTS)]
    data = post(server, "/classify", {"input": ids})["data"]
    scores = [result["probs"][0] for result in sorted(data, key=lambda result: result["index"])]
    assert scores == await expected(reference, None)


async def test_vllm_generates(
    vllm_generate: Server, reference: TransformersScorer, prompts: PromptBuilder
) -> None:
    ids = [prompt.ids for prompt in prompts.encode(QUERY, DOCUMENTS)]
    body = {"query": [], "items": ids, "label_token_ids": [prompts.yes, prompts.no]}
    data = post(vllm_generate, "/generative_scoring", body)["data"]
    assert in_order(data, "score") == await expected(reference, None)


async def test_sglang_with_two_labels(
    sglang_two_label: Server, reference: TransformersScorer, prompts: PromptBuilder
) -> None:
    texts = [prompts.prompt(QUERY, document).text for document in DOCUMENTS]
    data = post(sglang_two_label, "/v1/classify", {"input": texts})["data"]
    scores = [result["probs"][1] for result in sorted(data, key=lambda result: result["index"])]
    assert scores == await expected(reference, None)
