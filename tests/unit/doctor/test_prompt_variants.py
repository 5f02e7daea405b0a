"""The doctor names what is wrong with the prompt that a server writes."""

from __future__ import annotations

from typing import Any

import pytest

from qwen3_reranker.doctor.prompt_variants import VARIANTS, Variant
from qwen3_reranker.model.probability import logit, sigmoid
from qwen3_reranker.model.template import SUFFIX
from qwen3_reranker.problems import CLIENT_WRITES

from support.doctor_servers import (
    RIGHT,
    examined,
    judge,
    named,
    problems,
    rerank,
    tokenize,
    vllm,
)
from support.scripted_server import Paths, Reply, Request


@pytest.mark.parametrize("variant", VARIANTS, ids=[f"{v.code}: {v.description}" for v in VARIANTS])
@pytest.mark.parametrize("counting", [True, False])
def test_scores_reveal_how_a_server_writes_prompts(variant: Variant, counting: bool) -> None:
    paths = dict(vllm(variant.write))
    if not counting:
        score = paths["POST", "/v1/score"]
        paths["POST", "/v1/score"] = lambda request: Reply({"data": score(request).body["data"]})
    report = examined(paths, dialect="vllm-score", template="server")
    if variant.code is None:
        assert report.healthy, report
    else:
        assert problems(report) == {variant.code}, report


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if v.code == "newline-lost"], ids=lambda v: v.description
)
def test_what_a_server_renders_says_more_than_scores_that_move(variant: Variant) -> None:
    """As on a GPU in bf16, where a newline moves scores by less than the batch does."""
    moves = iter(range(10**6))

    def noisy(prompt: str) -> float:
        whole = prompt.rstrip("\n") + SUFFIX[-2:]
        return biased(judge(whole), 0.09 * (next(moves) % 2))

    def rendered(request: Request) -> Reply:
        body = request.body
        if "messages" in body:
            body = {"prompt": variant.write(*(m["content"] for m in body["messages"]))}
        return tokenize(Request("POST", "/tokenize", {}, body))

    paths = vllm(variant.write, noisy)
    blind = examined(paths, dialect="vllm-score", template="server")
    assert "newline-lost" not in blind.codes
    paths = {**paths, ("POST", "/tokenize"): rendered}
    report = examined(paths, dialect="vllm-score", template="server")
    assert problems(report) == {"newline-lost"}, report
    assert "rendering" in named(report, "newline-lost").message


@pytest.mark.parametrize("tokenizer", [None, "demo"])
def test_a_template_around_written_prompts(tokenizer: str | None) -> None:
    report = examined(vllm(RIGHT), dialect="vllm-score", template="client", tokenizer=tokenizer)
    assert problems(report) == {"template-twice"}, report


def test_no_template_around_plain_texts() -> None:
    report = examined(vllm(), template="server")
    assert problems(report) == {"template-missing"}, report
    assert named(report, "template-missing").advice.endswith(CLIENT_WRITES)


def test_what_llama_cpp_lacks_is_not_advised() -> None:
    bare = rerank(lambda query, document: judge(query + document), "llama.cpp")

    def without_template(request: Request) -> Reply:
        body = bare["POST", "/v1/rerank"](request).body
        # As many as llama.cpp counts of query and document alone.
        tokens = 14 * len(request.body["documents"])
        return Reply({**body, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})

    paths: Paths = {**bare, ("POST", "/v1/rerank"): without_template}
    report = examined(paths, dialect="llama.cpp", template="server")
    missing, ignored = named(report, "template-missing"), named(report, "instruction-ignored")
    # There this client cannot write the template.
    assert "template='client'" not in missing.advice + ignored.advice
    assert "GGUF file that has the head and the template named rerank" in missing.advice
    assert "None" not in str(report)


def test_a_wrong_template_that_this_client_does_not_use_is_a_warning() -> None:
    report = examined(vllm(lambda query, document: RIGHT(query, document)[:-1]))
    assert report.healthy, report
    assert named(report, "newline-lost").status == "warning"


@pytest.mark.parametrize(
    ("template_by", "code"), [("server", "template-missing"), ("client", "template-twice")]
)
def test_without_prompts_or_counts_the_other_template_mode_decides(
    template_by: Any, code: str
) -> None:
    def numbers(query: str, document: str) -> float:
        written = "<Query>: " in query
        # What the side that was not asked for would give.
        right = written == (template_by == "server")
        return judge(query + document if written == right == written else RIGHT(query, document))

    report = examined(rerank(numbers), dialect="rerank", template=template_by)
    assert problems(report) == {code}, report


def by_tokens(lost: int) -> Paths:
    paths = dict(vllm())

    def classify(request: Request) -> Reply:
        body = vllm()["POST", "/classify"](request).body
        body["usage"]["prompt_tokens"] -= lost * len(request.body["input"])
        return Reply(body)

    return {**paths, ("POST", "/classify"): classify}


@pytest.mark.parametrize(
    ("lost", "code"), [(1, "newline-lost"), (4, "think-missing"), (9, "suffix-cut")]
)
def test_tokens_that_are_missing_are_told_by_their_count(lost: int, code: str) -> None:
    report = examined(by_tokens(lost), dialect="vllm-classify", tokenizer="demo")
    assert problems(report) == {code}, report


def biased(score: float, by: float) -> float:
    return sigmoid(logit(score) + by)
