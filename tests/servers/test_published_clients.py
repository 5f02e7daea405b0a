"""
Client code as published articles show it, against the servers that this package makes.

The clients are written from the requests, prompts and answers that the articles describe, and use
nothing of this package. Only what has to differ does: the URL, the model and the port, and for an
offline engine the settings of a small machine. The expected scores are those of the model card's
recipe, or of the embedded engine.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
import requests

from qwen3_reranker import Reranker
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support.real_pairs import real_pairs
from support.servers.processes import MAX_LENGTH, Server
from support.servers.vllm_servers import ENV

TOLERANCE = 2e-3

CAPITAL = "What is the capital of China?"
PAIRS = [
    (
        CAPITAL,
        [
            "Gravity pulls two bodies together.",
            "The capital of China is Beijing.",
            "Shanghai has more inhabitants than any other city in China.",
            "An apple is a fruit.",
        ],
    ),
    *real_pairs(3),
]

# What the clients write around query and document. Not imported: it checks the package's own.
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


def query_part(query: str) -> str:
    return f"{PREFIX}<Instruct>: {INSTRUCTION}\n<Query>: {query}\n"


def document_part(document: str) -> str:
    return f"<Document>: {document}{SUFFIX}"


@pytest.fixture(scope="module")
def recipe_scores(recipe: Reranker) -> list[list[float]]:
    """The scores of the model card's recipe, for each query of `PAIRS`."""
    scores = [recipe.score(query, documents) for query, documents in PAIRS]
    assert scores[0].index(max(scores[0])) == 1
    assert max(map(max, scores)) - min(map(min, scores)) > 0.5  # or closeness means nothing
    return scores


def close(scores: list[float]) -> Any:
    return pytest.approx(scores, abs=TOLERANCE)


def test_sglang_classify_with_the_prompt_written_by_the_client(
    sglang_two_label: Server, recipe_scores: list[list[float]]
) -> None:
    """
    One request for each prompt, without a model; P(yes) is the second of two probabilities.

    It belongs to LABEL_1 where a checkpoint names no labels; `convert` calls it "yes".
    """
    for (query, documents), expected in zip(PAIRS, recipe_scores, strict=True):
        scores = []
        for document in documents:
            response = requests.post(
                f"{sglang_two_label.url}/v1/classify",
                headers={"Content-Type": "application/json"},
                json={"input": query_part(query) + document_part(document)},
                timeout=120,
            )
            [result] = response.json()["data"]
            assert result["num_classes"] == len(result["probs"]) == 2
            scores.append(result["probs"][1])
            assert result["label"] == ("yes" if scores[-1] > 0.5 else "no")
        assert scores == close(expected)


def rerank_written(url: str, query: str, documents: list[str]) -> list[float]:
    """Send query and documents as the two halves of the prompt; the request names no model."""
    halves = [document_part(document) for document in documents]
    response = requests.post(
        f"{url}/v1/rerank", json={"query": query_part(query), "documents": halves}, timeout=120
    ).json()
    scores = [0.0] * len(documents)
    for result in response["results"]:
        assert result["document"]["text"] == halves[result["index"]]
        scores[result["index"]] = result["relevance_score"]
    return scores


def test_vllm_rerank_with_the_prompt_written_by_the_client(
    vllm_original: Server, recipe_scores: list[list[float]]
) -> None:
    for (query, documents), expected in zip(PAIRS, recipe_scores, strict=True):
        assert rerank_written(vllm_original.url, query, documents) == close(expected)


def test_that_client_needs_a_server_without_a_template(
    vllm_template: Server, recipe_scores: list[list[float]]
) -> None:
    """With one, the prompt is written twice, and unrelated documents score high."""
    scores = rerank_written(vllm_template.url, *PAIRS[0])
    assert scores[0] > recipe_scores[0][0] + 0.5


def test_vllm_rerank_with_plain_texts(
    vllm_template: Server, recipe_scores: list[list[float]]
) -> None:
    """The client sends a key that is not needed, and asks for documents that come in any case."""
    for (query, documents), expected in zip(PAIRS, recipe_scores, strict=True):
        response = requests.post(
            f"{vllm_template.url}/v1/rerank",
            json={
                "model": vllm_template.served,
                "query": query,
                "documents": documents,
                "return_documents": True,
            },
            headers={"Authorization": "Bearer not-needed"},
            timeout=120,
        )
        results = response.json()["results"]
        scores = {result["index"]: result["relevance_score"] for result in results}
        assert [scores[index] for index in range(len(documents))] == close(expected)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        for result in results:
            assert result["document"]["text"] == documents[result["index"]]


# Both read the model, the engine's settings, and (query, documents) pairs from standard input.
# Programs of their own: an offline engine lives in the process that makes it.
SCORE = """
import json, sys
from vllm import LLM

model, settings, pairs = json.load(sys.stdin)
llm = LLM(
    model=model,
    runner="pooling",
    hf_overrides={
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": ["no", "yes"],
        "is_original_qwen3_reranker": True,
    },
    **settings,
)
for query, documents in pairs:
    outputs = llm.score(query, documents)
    print("SCORES", json.dumps([output.outputs.score for output in outputs]))
"""
GENERATE = """
import json, math, sys
from transformers import AutoTokenizer
from vllm import LLM, SamplingParams

model, settings, pairs = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(model)
yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
llm = LLM(model=model, **settings)
params = SamplingParams(temperature=0, max_tokens=1, logprobs=20, allowed_token_ids=[yes, no])
for query, documents in pairs:
    outputs = llm.generate([query + document for document in documents], params)
    scores = []
    for output in outputs:
        logprobs = output.outputs[0].logprobs[-1]
        p_yes, p_no = (math.exp(logprobs[token].logprob) for token in (yes, no))
        scores.append(p_yes / (p_yes + p_no))
    print("SCORES", json.dumps(scores))
"""


def run_offline(program: str, **settings: Any) -> list[list[float]]:
    """Run a program with `PAIRS` as written prompts, and return the scores that it prints."""
    settings |= {"dtype": "float32", "enforce_eager": True, "max_model_len": MAX_LENGTH}
    settings |= {"kv_cache_memory_bytes": 128 * 2**20}
    pairs = [(query_part(query), list(map(document_part, texts))) for query, texts in PAIRS]
    done = subprocess.run(
        [find_engine_python(None), "-c", program],
        input=json.dumps([str(DEMO_MODEL), settings, pairs]),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, **ENV},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("SCORES ")]
    return [json.loads(line.removeprefix("SCORES ")) for line in lines]


def test_vllm_offline_score_beside_the_embedded_engine(reranker: Reranker) -> None:
    scores = run_offline(SCORE)
    for (query, documents), found in zip(PAIRS, scores, strict=True):
        assert found == close(reranker.score(query, documents))


def test_vllm_offline_generate_with_allowed_tokens(recipe_scores: list[list[float]]) -> None:
    # vLLM's log-probabilities are by default those before the other tokens are ruled out, and in
    # the demo model "yes" and "no" are not among the 20 most likely of all.
    scores = run_offline(GENERATE, logprobs_mode="processed_logprobs")
    for found, expected in zip(scores, recipe_scores, strict=True):
        assert found == close(expected)
