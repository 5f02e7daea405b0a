"""Every dialect's request and answer, as on the wire; and dialects of one's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker import dialects as package
from qwen3_reranker.dialects import Dialect, HttpRequest, ScoreRequest, dialects, find, register
from qwen3_reranker.dialects.rerank import RerankDialect
from qwen3_reranker.errors import InputError
from qwen3_reranker.model.template import TextWriter

PLAIN = ScoreRequest("q", ["a", "b"], model="m", labels=(9693, 2152))
INSTRUCTED = ScoreRequest("q", ["a", "b"], "i", "m", (9693, 2152))
IDS = ScoreRequest([1, 2], [[3], [4, 5]], None, "m", (9693, 2152))

_RERANK = {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}
_JINA = _RERANK | {"return_documents": False}
_NATIVE = {"model": "m", "input": {"query": "q", "documents": ["a", "b"]}}
_CHOICE = {
    "max_tokens": 1,
    "temperature": 0,
    "logprobs": 20,
    "return_tokens_as_token_ids": False,
    "logprob_token_ids": [9693, 2152],
    "allowed_token_ids": [9693, 2152],
    "logit_bias": {"9693": 100, "2152": 100},
}
# name: (the path posted to, the body, what an instruction adds to it)
REQUESTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "vllm-classify": ("/classify", {"model": "m", "input": ["qa", "qb"]}, {}),
    "vllm-score": (
        "/v1/score",
        {"model": "m", "text_1": "q", "text_2": ["a", "b"]},
        {"instruction": "i"},
    ),
    "vllm-rerank": ("/v1/rerank", _JINA, {"instruction": "i"}),
    "vllm-generative": (
        "/generative_scoring",
        {"model": "m", "query": "q", "items": ["a", "b"], "label_token_ids": [9693, 2152]},
        {},
    ),
    "vllm-ascend": ("/v1/rerank", _JINA, {"instruction": "i"}),
    "sglang-score": (
        "/v1/score",
        {
            "model": "m",
            "query": "q",
            "items": ["a", "b"],
            "label_token_ids": [9693, 2152],
            "apply_softmax": True,
            "item_first": False,
        },
        {},
    ),
    "sglang-rerank": ("/v1/rerank", _JINA, {"instruct": "i"}),
    "sglang-classify": ("/v1/classify", {"model": "m", "input": ["qa", "qb"]}, {}),
    "gateway": (
        "/v1/score",
        {"model": "m", "text_1": "q", "text_2": ["a", "b"]},
        {"instruction": "i"},
    ),
    "tei": (
        "/rerank",
        {
            "query": "q",
            "texts": ["a", "b"],
            "truncate": False,
            "raw_scores": False,
            "return_text": False,
        },
        {},
    ),
    "llama.cpp": ("/v1/rerank", _RERANK, {}),
    "infinity": (
        "/rerank",
        _JINA
        | {
            "query": "<|im_start|>",
            "documents": ["qa<|endoftext|>", "qb<|endoftext|>"],
            "raw_scores": False,
        },
        {},
    ),
    "xinference": ("/v1/rerank", _JINA, {"kwargs": '{"instruction": "i"}'}),
    "xinference-vllm": (
        "/v1/rerank",
        _JINA | {"kwargs": '{"enable_qwen3_rerank_template": false}'},
        {},
    ),
    "litellm": ("/v1/rerank", _JINA, {"instruction": "i"}),
    "litellm-infinity": (
        "/v1/rerank",
        _JINA | {"query": "<|im_start|>", "documents": ["qa<|endoftext|>", "qb<|endoftext|>"]},
        {},
    ),
    "rerank": ("/v1/rerank", _JINA, {"instruction": "i"}),
    "completions": ("/v1/completions", {"model": "m", "prompt": ["qa", "qb"]} | _CHOICE, {}),
    "siliconflow": ("/v1/rerank", _JINA, {"instruction": "i"}),
    "dashscope": ("/compatible-api/v1/reranks", _RERANK, {"instruct": "i"}),
    "dashscope-native": (
        "/api/v1/services/rerank/text-rerank/text-rerank",
        _NATIVE | {"parameters": {"top_n": 2, "return_documents": False}},
        {"parameters": {"top_n": 2, "return_documents": False, "instruct": "i"}},
    ),
    "deepinfra": (
        "/v1/inference/m",
        {"queries": ["q", "q"], "documents": ["a", "b"]},
        {"instruction": "i"},
    ),
    "jina": ("/v1/rerank", _JINA, {}),
    "cohere-v2": ("/v2/rerank", _RERANK, {}),
    "cohere-v1": ("/v1/rerank", _JINA, {}),
}
IDS_REQUESTS: dict[str, dict[str, Any]] = {
    "vllm-classify": {"model": "m", "input": [[1, 2, 3], [1, 2, 4, 5]]},
    "vllm-generative": {
        "model": "m",
        "query": [1, 2],
        "items": [[3], [4, 5]],
        "label_token_ids": [9693, 2152],
    },
    "sglang-score": {
        "model": "m",
        "query": [1, 2],
        "items": [[3], [4, 5]],
        "label_token_ids": [9693, 2152],
        "apply_softmax": True,
        "item_first": False,
    },
    "completions": {"model": "m", "prompt": [[1, 2, 3], [1, 2, 4, 5]]} | _CHOICE,
}

# Recorded from vLLM 0.32.0 and SGLang 0.5.23; the others as documented.
_COHERE = """{"id": "x", "results": [{"index": 1, "relevance_score": 0.9862291},
    {"index": 0, "relevance_score": 0.0447110}], "meta": {"billed_units": {"search_units": 1}}}"""
_VLLM_SCORE = """{"id": "score-c1", "object": "list", "created": 1, "model": "/tmp/demo", "data": [
    {"index": 0, "object": "score", "score": 0.0447110},
    {"index": 1, "object": "score", "score": 0.9862291}],
    "usage": {"prompt_tokens": 172, "total_tokens": 172, "completion_tokens": 0,
    "prompt_tokens_details": null, "completion_tokens_details": null}}"""
_VLLM_RERANK = """{"id": "score-9b7e", "model": "/tmp/demo",
    "usage": {"prompt_tokens": 172, "total_tokens": 172}, "results": [
    {"index": 1, "document": {"text": "b", "multi_modal": null}, "relevance_score": 0.9862291},
    {"index": 0, "document": {"text": "a", "multi_modal": null}, "relevance_score": 0.0447110}]}"""
_XINFERENCE = """{"id": "x", "results": [
    {"index": 1, "relevance_score": 0.9862291, "document": null},
    {"index": 0, "relevance_score": 0.0447110, "document": {"text": "a"}}],
    "meta": {"tokens": {"input_tokens": null, "output_tokens": null}}}"""
ANSWERS = {
    "vllm-classify": """{"id": "classify-90a4", "object": "list", "model": "/tmp/demo", "data": [
        {"index": 0, "label": "LABEL_0", "probs": [0.0447110], "num_classes": 1},
        {"index": 1, "label": "LABEL_0", "probs": [0.9862291], "num_classes": 1}],
        "usage": {"prompt_tokens": 172, "total_tokens": 172, "completion_tokens": 0}}""",
    "vllm-score": _VLLM_SCORE,
    "vllm-rerank": _VLLM_RERANK,
    "vllm-generative": _VLLM_SCORE.replace('"completion_tokens": 0', '"completion_tokens": 2'),
    "vllm-ascend": _VLLM_RERANK,
    "sglang-score": """{"scores": [[0.0447110, 0.9552890], [0.9862291, 0.0137709]],
        "pooled_hidden_states": null, "token_logprobs": null, "model": "/tmp/demo",
        "usage": {"prompt_tokens": 172, "total_tokens": 172}, "object": "scoring"}""",
    "sglang-rerank": """[{"score": 0.9862291, "document": "b", "index": 1, "meta_info": null},
        {"score": 0.0447110, "index": 0, "meta_info": null}]""",
    "sglang-classify": """{"id": "classify-1e1d", "object": "list", "model": "/tmp/demo2", "data": [
        {"index": 0, "label": "no", "probs": [0.9552890, 0.0447110], "num_classes": 2},
        {"index": 1, "label": "yes", "probs": [0.0137709, 0.9862291], "num_classes": 2}],
        "usage": {"prompt_tokens": 172, "total_tokens": 172, "reasoning_tokens": 0}}""",
    "gateway": _VLLM_SCORE,
    "tei": '[{"index": 1, "score": 0.9862291}, {"index": 0, "score": 0.0447110}]',
    "llama.cpp": """{"model": "m", "object": "list",
        "usage": {"prompt_tokens": 172, "total_tokens": 172}, "results": [
        {"index": 0, "relevance_score": 0.0447110}, {"index": 1, "relevance_score": 0.9862291}]}""",
    "infinity": """{"object": "rerank", "results": [{"relevance_score": 0.9862291, "index": 1},
        {"relevance_score": 0.0447110, "index": 0, "document": "a"}], "model": "m",
        "usage": {"prompt_tokens": 830, "total_tokens": 830}, "id": "infinity-1", "created": 1}""",
    "xinference": _XINFERENCE,
    "xinference-vllm": _XINFERENCE,
    "litellm": _COHERE,
    "litellm-infinity": _COHERE,
    "rerank": _COHERE,
    "completions": """{"id": "cmpl-9e42", "object": "text_completion", "choices": [
        {"index": 0, "text": "no", "logprobs": {"text_offset": [0], "token_logprobs": [-22.255238],
        "tokens": ["no"], "top_logprobs": [{"no": -22.255238, "yes": -25.317035, "x": -4.8}]}},
        {"index": 1, "text": "yes", "logprobs": {"text_offset": [0], "token_logprobs": [-22.718411],
        "tokens": ["yes"], "top_logprobs": [{"yes": -22.718411, "no": -26.989733}]}}],
        "usage": {"prompt_tokens": 172, "total_tokens": 174, "completion_tokens": 2}}""",
    "siliconflow": """{"id": "x", "results": [{"index": 1, "relevance_score": 0.9862291},
        {"document": {"text": "a"}, "index": 0, "relevance_score": 0.0447110}],
        "tokens": {"input_tokens": 172, "output_tokens": 0}}""",
    "dashscope": """{"object": "list", "results": [{"index": 1, "relevance_score": 0.9862291},
        {"index": 0, "relevance_score": 0.0447110}], "model": "qwen3-rerank",
        "usage": {"total_tokens": 172}, "id": "x"}""",
    "dashscope-native": """{"output": {"results": [{"index": 1, "relevance_score": 0.9862291},
        {"index": 0, "relevance_score": 0.0447110, "document": {"text": "a"}}]},
        "usage": {"total_tokens": 172}, "request_id": "x"}""",
    "deepinfra": """{"scores": [0.0447110, 0.9862291], "input_tokens": 172, "request_id": null,
        "inference_status": {"status": "unknown", "runtime_ms": 0, "cost": 0.0}}""",
    "jina": """{"model": "jina-reranker-v3", "object": "list", "usage": {"total_tokens": 172},
        "results": [{"index": 1, "relevance_score": 0.9862291},
        {"index": 0, "relevance_score": 0.0447110}]}""",
    "cohere-v2": _COHERE,
    "cohere-v1": _COHERE,
}
# Those whose usage the answers above do not have, or not under this name.
SILENT = {
    *("sglang-rerank", "tei", "xinference", "xinference-vllm", "litellm", "litellm-infinity"),
    *("rerank", "siliconflow", "deepinfra", "cohere-v2", "cohere-v1"),
}


def test_no_dialect_is_left_out_here() -> None:
    names = {dialect.name for dialect in dialects()}
    assert names == set(REQUESTS) == set(ANSWERS)
    assert {dialect.name for dialect in dialects() if dialect.ids} == set(IDS_REQUESTS)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_what_the_server_documents(name: str) -> None:
    dialect = find(name)
    path, body, more = REQUESTS[name]
    for request, wanted in ((PLAIN, body), (INSTRUCTED, body | more)):
        http_request = dialect.build(request)
        sent = {key: value for key, value in http_request.body.items() if value is not None}
        assert (http_request.path or dialect.paths[0], sent) == (path, wanted)
    # Where the client writes the template the instruction is in the prompt.
    assert bool(more) == dialect.instruction


@pytest.mark.parametrize("name", IDS_REQUESTS)
def test_a_request_carries_token_ids(name: str) -> None:
    assert find(name).build(IDS).body == IDS_REQUESTS[name]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_model_that_is_not_known_is_not_named(name: str) -> None:
    http_request = find(name).build(ScoreRequest("q", ["a"]))
    assert http_request.body.get("model") is None
    assert "None" not in (http_request.path or "")


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_in_the_order_asked(name: str) -> None:
    dialect, answer = find(name), json.loads(ANSWERS[name])
    assert dialect.parse(answer, 2) == pytest.approx([0.0447110, 0.9862291], abs=1e-6)
    expected = {"infinity": 830}.get(name, None if name in SILENT else 172)
    assert dialect.usage(answer) == expected


def test_the_generic_rerank_reads_score_and_a_bare_list_too() -> None:
    answer = [{"index": 1, "score": 0.9}, {"index": 0, "relevance_score": 0.1, "score": 7}]
    assert find("rerank").parse(answer, 2) == [0.1, 0.9]
    assert find("rerank").usage(answer) is None


@pytest.mark.parametrize("name", ["infinity", "litellm-infinity"])
def test_infinity_strips_nothing_that_belongs_to_the_prompt(name: str) -> None:
    writer = TextWriter()
    head, tails = writer.head(" q\n"), [writer.tail(text) for text in (" a ", "\n")]
    body = find(name).build(ScoreRequest(head, tails)).body
    for sent, tail in zip(body["documents"], tails, strict=True):
        joined = body["query"].strip() + sent.strip()
        assert joined == head + tail + "<|endoftext|>"


def test_dialects_that_may_reach_llama_cpp_declare_its_placeholder() -> None:
    names = {d.name for d in dialects() if d.placeholders == ("{document}",)}
    assert names == {"llama.cpp", "xinference", "litellm", "rerank"}


def test_hosted_services_name_their_hosts_keys_and_models() -> None:
    hosted = [dialect for dialect in dialects() if dialect.hosts]
    assert {d.kind for d in hosted} == {"SiliconFlow", "DashScope", "DeepInfra", "Jina", "Cohere"}
    assert all(d.key_variables and d.default_model for d in hosted)
    for dialect in dialects():
        # What others serve on their own machines has no key in common with these.
        others = {
            k for d in dialects() if bool(d.hosts) != bool(dialect.hosts) for k in d.key_variables
        }
        assert not others & set(dialect.key_variables), dialect.name


def test_dialects_that_require_labels_get_them() -> None:
    assert {d.name for d in dialects() if d.needs_labels} == {"sglang-score", "vllm-generative"}
    body = find("completions").build(ScoreRequest("q", ["a"])).body
    assert not {"logprob_token_ids", "allowed_token_ids", "logit_bias"} & body.keys()


@pytest.mark.usefixtures("clean_register")
def test_a_custom_dialect_takes_ten_lines() -> None:
    @register
    class Acme(Dialect):
        name = "acme"
        paths = ("/acme/rank",)

        def build(self, request: ScoreRequest) -> HttpRequest:
            return HttpRequest({"question": request.query, "answers": list(request.documents)})

        def parse(self, answer: Any, count: int) -> list[float]:
            return package.scores_by_index(package.require_list(answer, "ranks"), count, "p")

    assert find("acme") in dialects()
    assert find("acme").build(PLAIN).body == {"question": "q", "answers": ["a", "b"]}
    assert find("acme").parse({"ranks": [{"index": 0, "p": 1}]}, 1) == [1.0]
    assert repr(Acme()) == "<dialect acme>"


@pytest.mark.usefixtures("clean_register")
@pytest.mark.parametrize("name", ["auto", "rerank", "tei"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    mine = type("Mine", (RerankDialect,), {"name": name, "paths": ("/rank",)})
    with pytest.raises(InputError, match=f"named '{name}' already"):
        register(mine)
    assert name == "auto" or type(find(name)) is not mine


@pytest.mark.usefixtures("clean_register")
def test_a_class_that_is_defined_again_replaces_the_first_one() -> None:
    def cell(kind: str) -> type[Dialect]:
        class Mine(RerankDialect):
            name = "mine"
            paths = ("/rank",)

        Mine.kind = kind
        return register(Mine)

    cell("before")
    again = cell("after")
    assert type(find("mine")) is again
    assert [d.kind for d in dialects() if d.name == "mine"] == ["after"]
    other = type("Other", (RerankDialect,), {"name": "mine", "paths": ("/rank",)})
    with pytest.raises(InputError, match="named 'mine' already"):
        register(other)


@pytest.mark.usefixtures("clean_register")
@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"paths": ("/rank",)}, "Mine.name is missing"),
        ({"name": "", "paths": ("/rank",)}, "Mine.name=''"),
        ({"name": 3, "paths": ("/rank",)}, "Mine.name=3"),
        ({"name": "mine"}, "Mine.paths is missing"),
        ({"name": "mine", "paths": ()}, r"Mine.paths=\(\)"),
        ({"name": "mine", "paths": "/rank"}, "Mine.paths='/rank'"),
        ({"name": "mine", "paths": ("rank",)}, r"Mine.paths=\('rank',\)"),
    ],
)
def test_a_dialect_without_a_name_or_paths_is_refused(
    attributes: dict[str, Any], reason: str
) -> None:
    mine = type("Mine", (Dialect,), {"build": None, "parse": None, **attributes})
    before = dialects()
    with pytest.raises(InputError, match=reason):
        register(mine)
    assert dialects() == before
    with pytest.raises(InputError, match=reason):
        Reranker(base_url="http://localhost:9", dialect=mine())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as error:
        find("vlm-classify")
    assert "'vlm-classify'" in str(error.value)
    for name in ("auto", *REQUESTS):
        assert name in str(error.value)
