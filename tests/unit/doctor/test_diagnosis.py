"""The doctor names each failure: made on a server in memory, whose model scores any prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from qwen3_reranker import InputError
from qwen3_reranker.doctor import diagnose
from qwen3_reranker.doctor.findings import CLIENT_WRITES
from qwen3_reranker.doctor.prompt_variants import VARIANTS, Variant
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
    tokenize,
    vllm,
)
from support.scripted_server import Paths, Reply, Request, ScriptedServer


def test_a_server_as_it_should_be() -> None:
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


@pytest.mark.parametrize("variant", VARIANTS, ids=[f"{v.code}: {v.description}" for v in VARIANTS])
@pytest.mark.parametrize("counting", [True, False])
def test_the_way_a_server_writes_its_prompts_is_told_by_its_scores(
    variant: Variant, counting: bool
) -> None:
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
    assert "GGUF file that has the right template named rerank" in missing.advice
    assert "None" not in str(report)


def test_a_wrong_template_that_this_client_does_not_use_is_a_warning() -> None:
    report = examined(vllm(lambda query, document: RIGHT(query, document)[:-1]))
    assert report.healthy, report
    assert named(report, "newline-lost").status == "warning"


@pytest.mark.parametrize(
    ("template_by", "code"), [("server", "template-missing"), ("client", "template-twice")]
)
def test_without_whole_prompts_or_counts_the_other_side_tells(template_by: Any, code: str) -> None:
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
        (lambda q, d: 1e-20 * len(d), "next-to-zero", "next to 0"),
        (lambda q, d: 1e-6 * len(d), "next-to-zero", "next to 0"),
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


def test_an_instruction_that_nobody_reads() -> None:
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


def test_a_checkpoint_that_cannot_be_read_here() -> None:
    report = examined(sglang(judge, {}))
    assert report.healthy, report
    assert status(report, "head's bias") == "unknown"


def test_nobody_there() -> None:
    with ScriptedServer() as server:
        url = server.url
    report = diagnose(url)
    assert problems(report) == {"unreachable"}


def test_a_server_that_fails_in_the_middle() -> None:
    paths = {**vllm(), ("POST", "/classify"): lambda _: Reply({"error": "busy"}, 503)}
    report = examined(paths)
    assert problems(report) == {"unreachable"}, report


@pytest.mark.parametrize("code", [401, 403])
def test_a_wrong_key(code: int) -> None:
    refused = Reply({"error": "Unauthorized, not with the-secret-key"}, code)
    paths = {("POST", p): lambda _: refused for p in ("/classify", "/v1/score", "/v1/rerank")}
    report = examined({**paths, ("GET", "/v1/models"): listed()}, api_key="the-secret-key")
    assert problems(report) == {"key-refused"}, report
    assert "the-secret-key" not in str(report)


@pytest.mark.parametrize("dialect", ["auto", "vllm-score"])
@pytest.mark.parametrize("template", ["auto", "server"])
def test_nothing_that_scores(dialect: str, template: Any) -> None:
    report = examined(
        {("GET", "/v1/models"): listed("somebody")}, dialect=dialect, template=template
    )
    assert problems(report) == {"nothing-scores"}, report


def test_an_answer_that_is_no_score() -> None:
    report = examined({**vllm(), ("POST", "/classify"): lambda _: Reply({"data": [{}]})})
    assert not report.healthy or status(report, "endpoint") == "ok", report


@pytest.mark.parametrize("target", ["localhost:8000", "ftp://somewhere", "http://"])
def test_no_url(target: str) -> None:
    report = diagnose(target)
    assert problems(report) == {"bad-address"}, report


def test_a_password_is_not_shown() -> None:
    with ScriptedServer(vllm()) as server:
        report = diagnose(server.url.replace("//", "//someone:the-password@"))
    assert "the-password" not in str(report.as_dict())


@pytest.mark.parametrize("options", [{"dialect": "nope"}, {"template": "nobody"}])
def test_arguments_that_cannot_be_used(options: Any) -> None:
    with pytest.raises(InputError):
        diagnose("http://localhost:1", **options)


@pytest.mark.parametrize(
    ("key", "refusal"),
    [
        (None, Reply(b"Internal Server Error", 500)),
        (
            "sk-wrong",
            Reply({"error": {"message": "No connected db.", "type": "no_db_connection"}}, 400),
        ),
    ],
)
def test_a_litellm_without_a_database_refuses_keys_in_its_own_way(
    key: str | None, refusal: Reply
) -> None:
    """As LiteLLM 1.106.2 answers everything but /health/liveliness and its documentation."""
    paths = {
        ("GET", "/health/liveliness"): lambda _: Reply(b'"I\'m alive!"'),
        ("GET", "/openapi.json"): lambda _: Reply({"info": {"title": "LiteLLM API"}}),
    }
    with ScriptedServer(paths) as server:
        for path in ("/v1/rerank", "/rerank", "/v1/completions"):
            server.always(refusal, path)
        server.script["GET", "/v1/models"] = lambda _: refusal
        report = diagnose(server.url, api_key=key)
    assert problems(report) == {"key-refused"}, report
