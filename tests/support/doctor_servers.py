"""Servers for the tests of the doctor, and functions that look at its reports."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from typing import Any

from qwen3_reranker.doctor import Finding, Report, diagnose
from qwen3_reranker.doctor.prompt_variants import VARIANTS
from qwen3_reranker.model.template import SUFFIX
from qwen3_reranker.problems import PROBLEMS

from support.scripted_server import Paths, Reply, Request, ScriptedServer, demo_tokenizer, relevance

MODEL = "scripted"
Write = Callable[[str, str], str]
Judge = Callable[[str], float]
RIGHT = VARIANTS[0].write


def judge(prompt: str) -> float:
    """Return the score of a prompt: relevance if it is the model card's, otherwise about 0.5."""
    parts = re.search(r"<Query>: (.*?)\n<Document>: (.*)", prompt, re.DOTALL)
    query, text = (parts[1], parts[2].removesuffix(SUFFIX)) if parts else ("", "")
    if prompt != RIGHT(query, text):
        return 0.45 + 0.1 * zlib.crc32(prompt.encode()) / 2**32
    return relevance(query, text)


def text_of(prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else demo_tokenizer().decode(prompt, False)


def count(prompts: list[str]) -> dict[str, int]:
    return {"prompt_tokens": sum(len(demo_tokenizer().encode(p).ids) for p in prompts)}


def listed(owner: str = "vllm", **more: Any) -> Callable[[Request], Reply]:
    return lambda _: Reply({"data": [{"id": MODEL, "owned_by": owner, **more}]})


def tokenize(request: Request) -> Reply:
    ids = demo_tokenizer().encode(request.body["prompt"], add_special_tokens=False).ids
    return Reply({"count": len(ids), "tokens": ids, "max_model_len": 512})


def vllm(
    write: Write = lambda query, document: query + document,
    score: Judge = judge,
    text_score: Judge | None = None,
    limit: int | None = None,
) -> Paths:
    """A vLLM whose /v1/score writes the prompt as `write` does."""

    def answer(prompts: list[str], key: str, score: Judge) -> Reply:
        scores = [score(prompt if limit is None else prompt[:limit]) for prompt in prompts]
        data = [
            {"index": i, key: [s] if key == "probs" else s, "object": "score"}
            for i, s in enumerate(scores)
        ]
        return Reply({"data": data, "usage": count(prompts)})

    def classify(request: Request) -> Reply:
        return answer([text_of(prompt) for prompt in request.body["input"]], "probs", score)

    def scoring(request: Request) -> Reply:
        query, texts = request.body["text_1"], request.body["text_2"]
        return answer([write(query, text) for text in texts], "score", text_score or score)

    return {
        ("GET", "/v1/models"): listed(max_model_len=512),
        ("GET", "/version"): lambda _: Reply({"version": "0.32.0"}),
        ("POST", "/tokenize"): tokenize,
        ("POST", "/classify"): classify,
        ("POST", "/v1/score"): scoring,
    }


def rerank(numbers: Callable[[str, str], float], kind: str | None = None) -> Paths:
    """A server that writes the template, and reports neither tokens nor much about itself."""

    def answer(request: Request) -> Reply:
        query, texts = request.body["query"], request.body["documents"]
        results = [
            {"index": i, "relevance_score": numbers(query, text)} for i, text in enumerate(texts)
        ]
        return Reply({"results": results})

    paths: Paths = {("POST", "/v1/rerank"): answer}
    if kind == "llama.cpp":
        props = {"default_generation_settings": {}, "build_info": "b6000"}
        paths = {**paths, ("GET", "/props"): lambda _: Reply(props)}
    return paths


def sglang(score: Judge, info: dict[str, Any], names: tuple[str, str] = ("no", "yes")) -> Paths:
    """An SGLang with two labels; `score` returns the probability of the second one."""

    def classify(request: Request) -> Reply:
        data = []
        for index, prompt in enumerate(request.body["input"]):
            probs = [1 - score(prompt), score(prompt)]
            label = names[probs[1] > probs[0]]
            data.append({"index": index, "label": label, "probs": probs, "num_classes": 2})
        return Reply({"data": data, "usage": count(request.body["input"])})

    about = {"is_generation": False, "architectures": ["Qwen3ForSequenceClassification"], **info}
    return {
        ("GET", "/v1/models"): listed("sglang", max_model_len=512),
        ("GET", "/model_info"): lambda _: Reply({"model_path": MODEL, **about}),
        ("GET", "/server_info"): lambda _: Reply({"version": "0.5.23"}),
        ("POST", "/tokenize"): tokenize,
        ("POST", "/v1/classify"): classify,
    }


def examined(paths: Paths, **options: Any) -> Report:
    with ScriptedServer(paths) as server:
        report = diagnose(server.url, **options)
    assert json.loads(json.dumps(report.as_dict()))["healthy"] is report.healthy
    return report


def named(report: Report, code: str) -> Finding:
    found = [finding for finding in report.findings if finding.code == code]
    assert found, report
    assert found[0].message
    assert PROBLEMS[code].advice in found[0].advice
    return found[0]


def finding_of(report: Report, check: str) -> Finding:
    return next(finding for finding in report.findings if finding.check == check)


def problems(report: Report) -> set[str | None]:
    return {finding.code for finding in report.findings if finding.status == "problem"}


def status(report: Report, check: str) -> str:
    return finding_of(report, check).status
