"""The doctor names each failure: made on a server in memory, whose model scores any prompt."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from qwen3_reranker.model.probability import logit, sigmoid
from qwen3_reranker.model.template import SUFFIX

from support.checkpoints import copy_demo
from support.doctor_servers import (
    RIGHT,
    Judge,
    examined,
    finding_of,
    judge,
    listed,
    named,
    problems,
    rerank,
    sglang,
    status,
    vllm,
)
from support.scripted_server import Reply, Request

BUSY = Reply({"error": "busy"}, 503)


def test_a_healthy_server() -> None:
    report = examined(vllm(), tokenizer="demo")
    assert report.healthy, report
    assert not report.codes
    checks = [finding.check for finding in report.findings]
    for check in (
        *("Python", "transformers", "vllm", "torch", "GPU", "tokenizer"),
        *("reachable", "kind", "model", "endpoint", "template", "instruction", "control tokens"),
        *("truncation", "determinism", "latency", "order", "golden pairs"),
    ):
        assert check in checks, check


@pytest.mark.parametrize(
    ("score", "code"),
    [
        (lambda prompt: 0.5, "all-half"),
        (lambda prompt: 1e-20 * judge(prompt), "next-to-zero"),
        (lambda prompt: 3e-5 + 1e-6 * judge(prompt), "next-to-zero"),
        (lambda prompt: 0.731, "identical-scores"),
        (lambda prompt: sigmoid(judge(prompt)), "double-sigmoid"),
        (lambda prompt: sigmoid(2 * judge(prompt) - 1), "double-sigmoid"),
        (lambda prompt: 1 - judge(prompt), "labels-inverted"),
        (lambda prompt: 0.3 * (0.5 - judge(prompt)), "embedding-component"),
        (lambda prompt: 0.4 + 0.1 * judge(prompt), "no-separation"),
    ],
)
@pytest.mark.parametrize("dialect", ["auto", "vllm-classify"])
def test_scores_of_a_head_that_is_wrong(score: Judge, code: str, dialect: str) -> None:
    report = examined(vllm(score=score), dialect=dialect)
    assert problems(report) == {code}, report


@pytest.mark.parametrize(
    ("numbers", "code", "says"),
    [
        (lambda q, d: 1e-20 * len(d), "next-to-zero", "almost 0"),
        (lambda q, d: 1e-6 * len(d), "next-to-zero", "almost 0"),
        (lambda q, d: 0.4, "identical-scores", "neither query nor document"),
        (lambda q, d: len(q) / 99, "identical-scores", "not see the document"),
        (lambda q, d: len(d) / 999, "identical-scores", "not see the query"),
        (lambda q, d: sigmoid(judge(RIGHT(q, d))), "double-sigmoid", "without it"),
    ],
)
def test_scores_of_a_server_that_writes_the_template(
    numbers: Callable[[str, str], float], code: str, says: str
) -> None:
    report = examined(rerank(numbers, "llama.cpp"), dialect="llama.cpp")
    assert problems(report) == {code}, report
    assert says in named(report, code).message


def test_a_sigmoid_of_the_servers_own_scores() -> None:
    report = examined(
        vllm(RIGHT, text_score=lambda prompt: sigmoid(judge(prompt))),
        dialect="vllm-score",
        template="server",
    )
    assert "complete prompts" in named(report, "double-sigmoid").message


def test_labels_that_the_server_names_in_the_other_order() -> None:
    # As the names say, but read from the second place: P(no).
    report = examined(sglang(lambda prompt: 1 - judge(prompt), {}, ("yes", "no")))
    assert problems(report) == {"labels-inverted"}, report
    assert "[yes, no]" in named(report, "labels-inverted").message


def test_a_named_label_without_its_probability() -> None:
    paths = sglang(judge, {}, ("yes", "no"))
    honest = paths["POST", "/v1/classify"]

    def classify(request: Request) -> Reply:
        body = honest(request).body
        for item in body["data"]:
            item["probs"][0] = None
        return Reply(body)

    report = examined({**paths, ("POST", "/v1/classify"): classify})
    assert report.healthy, report


def test_an_answer_with_more_in_it_than_scores() -> None:
    paths = rerank(lambda query, text: judge(RIGHT(query, text)))
    honest = paths["POST", "/v1/rerank"]

    def ranked(request: Request) -> Reply:
        return Reply({**honest(request).body, "data": ["x", None]})

    report = examined({**paths, ("POST", "/v1/rerank"): ranked})
    assert report.healthy, report


@pytest.mark.parametrize("name", ["~nosuchuser/reranker", "~", "\0"])
def test_a_model_with_a_name_that_is_no_path(name: str) -> None:
    models = Reply({"data": [{"id": name, "owned_by": "vllm", "max_model_len": 512}]})
    report = examined({**vllm(), ("GET", "/v1/models"): lambda _: models})
    assert report.healthy, report
    assert status(report, "golden pairs") == "unknown"


def test_one_label_under_a_softmax() -> None:
    def classify(request: Request) -> Reply:
        data = [
            {"index": i, "label": "LABEL_0", "probs": [1.0], "num_classes": 1}
            for i, _ in enumerate(request.body["input"])
        ]
        return Reply({"data": data})

    report = examined({**sglang(judge, {}), ("POST", "/v1/classify"): classify})
    assert problems(report) == {"identical-scores"}, report


def test_an_embedding_model_that_says_so() -> None:
    causal = {"architectures": ["Qwen3ForCausalLM"]}

    def rerank(request: Request) -> Reply:
        texts = request.body["documents"]
        return Reply([{"index": i, "score": -0.02 * len(t) / 99} for i, t in enumerate(texts)])

    paths = dict(sglang(judge, causal))
    del paths["POST", "/v1/classify"]
    report = examined({**paths, ("POST", "/v1/rerank"): rerank})
    assert problems(report) == {"embedding-component"}, report
    refused = Reply({"message": "Please relaunch without --is-embedding"}, 400)
    report = examined({**paths, ("POST", "/v1/rerank"): lambda _: refused})
    assert problems(report) == {"embedding-component"}, report


def test_a_vector_where_a_number_belongs() -> None:
    message = "Input should be a valid number [type=float_type, input_value=[0.1], input_type=list]"
    refused = Reply({"object": "error", "message": message}, 500)
    paths = {("POST", path): lambda _: refused for path in ("/v1/rerank", "/v1/score")}
    report = examined({("GET", "/v1/models"): listed("sglang"), **paths})
    assert problems(report) == {"embedding-component"}, report


def biased(score: float, by: float) -> float:
    return sigmoid(logit(score) + by)


GOLDEN = {
    "Which planet is known as the Red Planet?": (-3.1093, 7.1204, -0.3788, 3.5416),
    "apple": (-10.6466,),
    "gravity": (7.4182,),
}


def small(prompt: str, by: float = 0.0) -> float:
    """Score the published pairs of the 0.6B model as published, any other as `judge` does."""
    for word, (query, place) in {
        "Venus": ("Which planet is known as the Red Planet?", 0),
        "Mars": ("Which planet is known as the Red Planet?", 1),
        "Jupiter": ("Which planet is known as the Red Planet?", 2),
        "Saturn": ("Which planet is known as the Red Planet?", 3),
        "eat an apple<": ("apple", 0),
        "Gravity is a force": ("gravity", 0),
    }.items():
        asked = "Red Planet?" in prompt or "gravity\n" in prompt or "apple<" in prompt
        if word in prompt and asked:
            return sigmoid(GOLDEN[query][place] + by)
    return biased(judge(prompt), by)


@pytest.mark.parametrize(
    ("by", "code"),
    [(0.0, None), (0.2, None), (-1.7, "random-head-bias"), (0.9, "random-head-bias")],
)
def test_published_scores_of_a_real_model(by: float, code: str | None) -> None:
    report = examined(
        vllm(score=lambda prompt: small(prompt, by)), model="Qwen/Qwen3-Reranker-0.6B"
    )
    assert problems(report) == ({code} if code else set()), report
    golden = finding_of(report, "golden pairs")
    assert "pairs of Qwen/Qwen3-Reranker-0.6B" in golden.message


def test_scores_of_another_model_than_it_is_named_for() -> None:
    report = examined(vllm(), model="Qwen/Qwen3-Reranker-8B")
    assert problems(report) == {"golden-mismatch"}, report


@pytest.mark.parametrize(
    ("name", "certain"),
    [
        ("acme/Qwen3-Reranker-8B", True),
        (r"C:\models\qwen3-reranker-8b", True),
        ("acme/Qwen3-Reranker-8B-legal-ft", False),
        ("/data/finetunes/qwen3-reranker-8b/run7/checkpoint-900", False),
    ],
)
def test_a_name_that_only_contains_a_published_one_may_be_a_fine_tuned_models(
    name: str, certain: bool
) -> None:
    report = examined(vllm(), model=name)
    assert report.healthy is not certain, report
    finding = named(report, "golden-mismatch")
    assert finding.status == ("problem" if certain else "warning")
    assert ("fine-tuned" in finding.advice) is not certain


def test_a_published_name_that_a_fine_tuned_model_is_served_under() -> None:
    served = {"id": "Qwen3-Reranker-8B", "owned_by": "vllm", "root": "acme/Qwen3-Reranker-8B-ft"}
    report = examined({**vllm(), ("GET", "/v1/models"): lambda _: Reply({"data": [served]})})
    assert named(report, "golden-mismatch").status == "warning"


def test_a_bias_of_a_model_that_may_be_fine_tuned_is_a_warning() -> None:
    report = examined(
        vllm(score=lambda prompt: small(prompt, 0.9)), model="acme/Qwen3-Reranker-0.6B-ft"
    )
    finding = named(report, "random-head-bias")
    assert finding.status == "warning"
    assert "fine-tuned" in finding.advice


def test_a_server_that_lists_no_model_has_no_golden_pairs() -> None:
    finding = finding_of(examined(rerank(lambda q, d: judge(RIGHT(q, d)))), "golden pairs")
    assert finding.status == "unknown"
    assert "the model's name is unknown" in finding.message


@pytest.mark.parametrize("options", [{}, {"dialect": "vllm-score", "template": "server"}])
def test_a_request_that_fails_costs_one_check_alone(options: Any) -> None:
    paths, asked = vllm(RIGHT), itertools.count(1)
    classify = paths["POST", "/classify"]

    def fail_once(request: Request) -> Reply:
        whole = isinstance(request.body["input"][0], str)
        return BUSY if whole and next(asked) == 2 else classify(request)

    report = examined({**paths, ("POST", "/classify"): fail_once}, tokenizer="demo", **options)
    assert report.healthy, report
    finding = finding_of(report, "complete prompts")
    assert finding.status == "unknown"
    assert "503" in finding.message
    assert {"truncation", "latency", "order", "golden pairs"} <= {
        finding.check for finding in report.findings
    }


def test_a_prompt_that_is_cut_in_silence() -> None:
    def cut(prompt: str) -> float:
        return judge(prompt) if prompt.endswith(SUFFIX) else 0.97

    report = examined(vllm(score=cut, limit=3000), tokenizer="demo")
    assert named(report, "suffix-cut").status == "warning"
    assert report.healthy, report


def test_a_long_document_that_is_cut_alone() -> None:
    def kept(prompt: str) -> float:
        return judge(prompt) if prompt.endswith(SUFFIX) else 0.99

    report = examined(vllm(score=kept), tokenizer="demo")
    assert status(report, "truncation") == "ok", report
    assert not report.codes


def test_scores_that_move() -> None:
    moves = iter(range(10**6))
    report = examined(vllm(score=lambda prompt: biased(judge(prompt), 0.4 * (next(moves) % 2))))
    assert named(report, "not-deterministic").status == "warning"


def test_an_ignored_instruction() -> None:
    report = examined(rerank(lambda q, d: judge(RIGHT(q, d))), dialect="rerank", template="server")
    assert named(report, "instruction-ignored").status == "warning"
    assert report.healthy, report


def test_control_tokens_that_a_text_endpoint_reads() -> None:
    report = examined(vllm(RIGHT), dialect="vllm-score", template="server")
    assert "2 tokens" in named(report, "control-tokens").message


def test_a_bias_that_the_checkpoint_lacks(tmp_path: Path) -> None:
    folder = copy_demo(tmp_path / "two", architectures=["Qwen3ForSequenceClassification"])
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] = weights["model.embed_tokens.weight"][:2].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    paths = sglang(judge, {"model_path": str(folder)})
    assert problems(examined(paths)) == {"random-head-bias"}
    weights["score.bias"] = weights["score.weight"][:, 0] * 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    report = examined(paths)
    assert report.healthy, report
    assert status(report, "head's bias") == "ok"


def test_a_checkpoint_elsewhere_is_not_looked_for_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_demo(tmp_path / "two", architectures=["Qwen3ForSequenceClassification"])
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] = weights["model.embed_tokens.weight"][:2].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.chdir(folder)
    report = examined(sglang(judge, {"model_path": ""}))
    assert report.healthy, report
    assert status(report, "head's bias") == "unknown"


def test_an_sglang_that_has_only_the_older_path_of_its_metadata(tmp_path: Path) -> None:
    folder = copy_demo(tmp_path / "two", architectures=["Qwen3ForSequenceClassification"])
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] = weights["model.embed_tokens.weight"][:2].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    paths = dict(sglang(judge, {"model_path": str(folder)}))
    paths["GET", "/get_model_info"] = paths.pop(("GET", "/model_info"))
    assert problems(examined(paths)) == {"random-head-bias"}


def test_a_checkpoint_that_cannot_be_read_here() -> None:
    report = examined(sglang(judge, {}))
    assert report.healthy, report
    assert status(report, "head's bias") == "unknown"
