"""Servers that say little, too much or something else of themselves, as a user meets them."""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import (
    DetectionError,
    Reranker,
    RerankerWarning,
    ServerUnavailableError,
    UnsupportedFeatureError,
)
from qwen3_reranker.dialects import dialects
from qwen3_reranker.model.probability import logit, sigmoid
from qwen3_reranker.model.probe import NEGATION

from support.doctor_servers import examined, named, vllm
from support.helpers import INSTRUCTION
from support.scripted_server import (
    DOCUMENTS,
    QUERY,
    RIGHT,
    VLLM,
    Handler,
    Paths,
    Reply,
    Request,
    ScriptedServer,
    relevance,
    rerank,
)

KEY = "sk-0123456789abcdef"
DROPPED = Reply(b"", status=None)
UNAUTHORIZED = Reply({"error": "Unauthorized"}, 401)


def listing(*entries: Mapping[str, Any]) -> Handler:
    return lambda _: Reply({"object": "list", "data": [{"object": "model", **e} for e in entries]})


def templated(request: Request) -> Reply:
    """A server that writes the template; what it scores has to be plain text."""
    assert "<Query>" not in request.body["query"]
    return rerank(request)


# Instructions


@pytest.mark.parametrize("status", [500, 400, 422])
def test_a_server_that_refuses_an_instruction_scores_without_it(
    server: ScriptedServer, later: Callable[[float], None], status: int
) -> None:
    """As Xinference 4.1 does with its vllm and llama.cpp engines."""

    def refusing(request: Request) -> Reply:
        if "instruction" in request.body.get("kwargs", ""):
            kwargs = json.loads(request.body["kwargs"])
            return Reply({"detail": f"Unexpected keyword arguments: {kwargs}"}, status)
        return templated(request)

    server.script = {("POST", "/v1/rerank"): refusing}
    with Reranker(base_url=server.url, dialect="xinference", instruction=INSTRUCTION) as reranker:
        with pytest.warns(RerankerWarning, match="xinference at .* does not use it"):
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            later(61)
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    with (
        Reranker(base_url=server.url, dialect="xinference", on_unsupported="raise") as reranker,
        pytest.raises(UnsupportedFeatureError, match="does not use it"),
    ):
        reranker.score(QUERY, DOCUMENTS, instruction=INSTRUCTION)


@pytest.mark.parametrize("cache", [None, {}], ids=["no cache", "cache"])
def test_whether_an_instruction_is_read_is_measured_again_after_a_failure(
    server: ScriptedServer, later: Callable[[float], None], cache: dict[str, Any] | None
) -> None:
    broken = 2

    def failing(request: Request) -> Reply:
        nonlocal broken
        if request.body.get("instruction") == NEGATION:
            if broken:
                broken -= 1
                return Reply({"detail": "CUDA error: out of memory"}, 500)
            reply = rerank(request)
            for result in reply.body["results"]:
                result["relevance_score"] = 1 - result["relevance_score"]
            return reply
        return rerank(request)

    server.always(failing, "/v1/rerank")
    settings: dict[str, Any] = {"dialect": "vllm-rerank", "template": "server", "cache": cache}
    with Reranker(base_url=server.url, **settings, instruction=INSTRUCTION) as reranker:
        with pytest.warns(RerankerWarning, match="does not use it"):
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        later(61)
        found = reranker.score(QUERY, DOCUMENTS)
    assert found == [relevance(QUERY, document, INSTRUCTION) for document in DOCUMENTS]


def test_servers_that_differ_in_whether_they_refuse_instructions_are_not_cached(
    server: ScriptedServer,
) -> None:
    def refusing(request: Request) -> Reply:
        if "instruction" in request.body:
            return Reply({"detail": "unknown field: instruction"}, 400)
        return rerank(request)

    cache: dict[str, Any] = {}
    settings: dict[str, Any] = {"dialect": "vllm-rerank", "template": "server", "cache": cache}
    server.always(refusing, "/v1/rerank")
    with ScriptedServer() as other:
        other.always(rerank, "/v1/rerank")
        urls = [server.url, other.url]
        with Reranker(base_url=urls, **settings, instruction=INSTRUCTION) as reranker:
            with pytest.warns(RerankerWarning, match="does not use it"):
                reranker.score(QUERY, DOCUMENTS)
            server.always(Reply({}, 503), "/v1/rerank")  # the other one has to score
            with pytest.warns(RerankerWarning, match="the servers differ"):
                reranker.score(QUERY, DOCUMENTS)
            reranker.score(QUERY, DOCUMENTS)
    assert cache == {}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reads", [True, False], ids=["reads", "ignores"])
def test_noise_is_not_taken_for_an_instruction(
    server: ScriptedServer, reads: bool, seed: int
) -> None:
    noise = random.Random(seed)  # noqa: S311

    def bf16(request: Request) -> Reply:
        """Answer with log-odds that differ in the last digits for equal requests."""
        instruction = request.body.pop("instruction", None)
        reply = rerank(request)
        for result in reply.body["results"]:
            odds = logit(result["relevance_score"]) + noise.uniform(-0.03, 0.03)
            if reads and instruction == NEGATION:
                odds -= 0.8
            result["relevance_score"] = sigmoid(round(odds * 32) / 32)
        return reply

    server.always(bf16, "/v1/rerank")
    settings: dict[str, Any] = {"dialect": "vllm-rerank", "template": "server"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Reranker(base_url=server.url, **settings) as reranker:
            reranker.score(QUERY, DOCUMENTS, instruction=INSTRUCTION)
    assert ["does not use it" in str(w.message) for w in caught] == [True] * (not reads)


# Gateways that drop what they do not know


def only(path: str, answer: Handler) -> Paths:
    """A gateway that closes the connection for every other path."""
    gets = ("/v1/models", "/models", "/version", "/model_info", "/get_model_info", "/info")
    more = ("/v1/cluster/version", "/props", "/openapi.json", "/v1/openapi.json")
    dropped: Paths = {("GET", get): lambda _: DROPPED for get in (*gets, *more)}
    return {**dropped, ("POST", path): answer}


@pytest.mark.parametrize(
    "given",
    [
        {"dialect": "rerank", "template": "server"},
        {"dialect": "rerank"},
        {"path": "/v1/rerank"},
    ],
    ids=["dialect and template", "dialect", "endpoint"],
)
def test_a_gateway_that_drops_unknown_paths(server: ScriptedServer, given: dict[str, Any]) -> None:
    server.script = dict(only("/v1/rerank", templated if "template" in given else rerank))
    url = server.url + given.pop("path", "")
    with Reranker(base_url=url, max_retries=0, **given) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT


def test_a_gateway_that_drops_the_endpoints_that_it_does_not_have(server: ScriptedServer) -> None:
    posts = {("POST", path): lambda _: DROPPED for d in dialects() for path in d.paths}
    server.script = {**posts, ("POST", "/v1/rerank"): rerank}
    with Reranker(base_url=server.url, max_retries=0) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert "dialect rerank at /v1/rerank" in reranker.describe()
    server.script["POST", "/v1/rerank"] = lambda _: Reply({"detail": "no such model"}, 400)
    with (
        Reranker(base_url=server.url, max_retries=0) as reranker,
        pytest.raises(ServerUnavailableError) as caught,
    ):
        reranker.score(QUERY, DOCUMENTS)
    # The server may also have died during the detection, so the error is that of a retry.
    assert "- rerank: " in str(caught.value) and "no such model" in str(caught.value)
    assert "- vllm-classify: no connection to" in str(caught.value)


@pytest.mark.parametrize("path", ["/v1/models", "/version", "/props", "/v1/cluster/version"])
def test_one_path_that_is_dropped_is_no_failure(server: ScriptedServer, path: str) -> None:
    server.script["GET", path] = lambda _: DROPPED
    with Reranker(base_url=server.url, tokenizer="demo", max_retries=0) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT


# Lists of models

EMBEDDER = {"id": "embedder", "max_model_len": 512}
RANKER = {"id": "ranker", "max_model_len": 1024}
LISTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Infinity": ({"capabilities": ["embed"]}, {"capabilities": ["rerank"]}),
    "Xinference": ({"model_type": "embedding"}, {"model_type": "rerank"}),
    "by name": ({}, {"root": "Qwen/Qwen3-Reranker-0.6B"}),
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("name", LISTS)
def test_of_several_models_the_reranker_is_used(
    server: ScriptedServer, name: str, order: int
) -> None:
    other, right = LISTS[name]
    server.script["GET", "/v1/models"] = listing(*[EMBEDDER | other, RANKER | right][::order])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Reranker(base_url=server.url, tokenizer="demo") as reranker:
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            assert reranker.model == "ranker"
            assert "max_length 1023" in reranker.describe()
    assert {request.body["model"] for request in server.asked()} == {"ranker"}


def test_the_length_is_that_of_the_model_that_is_given(server: ScriptedServer) -> None:
    server.script["GET", "/v1/models"] = listing(EMBEDDER, RANKER)
    for model, length in (("embedder", 511), ("ranker", 1023)):
        with Reranker(base_url=server.url, tokenizer="demo", model=model) as reranker:
            assert f"model {model}, max_length {length}" in reranker.describe()


def test_two_models_that_may_be_the_reranker_are_warned_of(server: ScriptedServer) -> None:
    server.script["GET", "/v1/models"] = listing({"id": "a"}, {"id": "b"})
    with (
        Reranker(base_url=server.url, tokenizer="demo") as reranker,
        pytest.warns(RerankerWarning, match="'a' was taken: give model= to say which of 'a', 'b'"),
    ):
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    server.script = {key: found for key, found in server.script.items() if key[0] == "GET"}
    with (
        Reranker(base_url=server.url) as reranker,
        pytest.raises(DetectionError, match="give model= to say which of 'a', 'b'"),
    ):
        reranker.score(QUERY, DOCUMENTS)


def test_infinity_without_a_prefix_lists_its_models_elsewhere(server: ScriptedServer) -> None:
    def infinity(request: Request) -> Reply:
        scores = [relevance(*_parts(prompt)) for prompt in request.body["documents"]]
        results = [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]
        return Reply({"object": "rerank", "results": results})

    server.script = {
        ("GET", "/models"): listing(
            {"id": "embed", "owned_by": "infinity", "capabilities": ["embed"]},
            {"id": "rank", "owned_by": "infinity", "capabilities": ["rerank"]},
        ),
        ("POST", "/rerank"): infinity,
    }
    with Reranker(base_url=server.url, tokenizer="demo") as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert "Infinity, dialect infinity at /rerank" in reranker.describe()
    assert {request.body["model"] for request in server.asked("/rerank")} == {"rank"}


def _parts(prompt: str) -> tuple[str, str]:
    query = prompt.partition("<Query>: ")[2].partition("\n<Document>: ")[0]
    document = prompt.partition("\n<Document>: ")[2].partition("<|im_end|>")[0]
    return query, document


def test_a_tokenizer_of_another_model_is_passed_over(
    server: ScriptedServer, tmp_path: Path
) -> None:
    for name, content in (
        ("broken", "{"),
        ("words", '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}}}'),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tokenizer.json").write_text(content)
        model = {"id": "m", "owned_by": "vllm", "root": str(folder), "max_model_len": 2048}
        server.script["GET", "/v1/models"] = listing(model)
        with Reranker(base_url=server.url) as reranker:
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            assert ", text, template" in reranker.describe()


# Keys


def test_a_key_that_is_refused_for_the_list_of_models_is_warned_about(
    server: ScriptedServer,
) -> None:
    server.script["GET", "/v1/models"] = lambda _: UNAUTHORIZED
    lost = "was refused, so this is unknown: the model's name, its maximum length, its tokeni"
    with Reranker(base_url=server.url, api_key=KEY) as reranker:
        with pytest.warns(RerankerWarning, match=lost) as caught:
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert len(caught) == 1 and "Give the right api_key=" in str(caught[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert lost in reranker.describe()


def test_the_doctor_names_a_key_that_is_refused_for_the_list() -> None:
    paths = {**vllm(), ("GET", "/v1/models"): lambda _: UNAUTHORIZED}
    report = examined(paths, tokenizer="demo", api_key=KEY)
    finding = named(report, "key-refused")
    assert finding.status == "warning" and "the model's name" in finding.message


def guarded(answer: Reply, headers: Mapping[str, str] | None = None) -> Handler:
    def get(request: Request) -> Reply:
        if request.headers.get("authorization") == f"Bearer {KEY}":
            return answer
        return Reply({"error": "Unauthorized"}, 401, headers or {})

    return get


GETS = ("/v1/models", "/models", "/version", "/info", "/props", "/v1/cluster/version")
GUARDED: dict[str, tuple[str, Paths]] = {
    "llama.cpp": (
        "LLAMA_API_KEY",
        {("GET", get): guarded(Reply({}), {"Server": "llama.cpp"}) for get in GETS},
    ),
    "Xinference": (
        "XINFERENCE_API_KEY",
        {
            **{("GET", get): guarded(Reply({})) for get in GETS},
            ("GET", "/openapi.json"): lambda _: Reply(
                {"info": {"title": "FastAPI"}, "paths": {"/v1/cluster/version": {}}}
            ),
        },
    ),
    "Infinity": (
        "INFINITY_API_KEY",
        {
            ("GET", "/v1/models"): guarded(
                listing({"id": "m", "owned_by": "infinity"})(Request("GET", "", {}, None))
            ),
            ("GET", "/v1/openapi.json"): lambda _: Reply({"info": {"title": "♾️ Infinity"}}),
        },
    ),
}


@pytest.mark.parametrize("kind", GUARDED)
def test_the_key_is_found_for_a_server_that_guards_what_it_says(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    variable, paths = GUARDED[kind]
    for name in ("VLLM_API_KEY", "LITELLM_API_KEY", "SGLANG_API_KEY"):
        monkeypatch.setenv(name, "another-server's-key")
    monkeypatch.setenv(variable, KEY)
    server.script = dict(paths)
    with Reranker(base_url=server.url) as reranker, pytest.raises(DetectionError):
        reranker.score(QUERY, DOCUMENTS)  # there is nothing to score with
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    sent = {request.headers.get("authorization") for request in server.requests}
    assert sent == {None, f"Bearer {KEY}"}


# Documents that are cut without a word


@pytest.mark.parametrize(("length", "warned"), [(8192, False), (8193, True), (40_000, True)])
def test_silent_truncation_by_a_server_is_warned_about(
    server: ScriptedServer, length: int, warned: bool
) -> None:
    server.script = {("POST", "/v1/rerank"): templated}
    document = ("river " * length)[: length - 1] + "."
    settings: dict[str, Any] = {"base_url": server.url, "dialect": "rerank", "template": "server"}
    with warnings.catch_warnings(record=True) as caught, Reranker(**settings) as reranker:
        warnings.simplefilter("always")
        for _ in range(2):
            reranker.score(QUERY, [document, "a river"])
    assert ["give tokenizer=" in str(w.message) for w in caught] == [True] * warned
    with Reranker(**settings, on_unsupported="raise") as reranker:
        if warned:
            with pytest.raises(UnsupportedFeatureError, match="without an error"):
                reranker.score(QUERY, [document])
        else:
            reranker.score(QUERY, [document])
    with warnings.catch_warnings(), Reranker(**settings, tokenizer="demo") as reranker:
        warnings.simplefilter("error")
        reranker.score(QUERY, [document])


# Models that are no rerankers


def cosine(one: str, other: str) -> float:
    """The similarity of two texts as a good embedding model gives it, in bf16."""
    related = any(word in one and word in other for word in ("capital", "ravity"))
    exact = (0.76 if related else 0.14) + 0.001 * math.sin(len(one) - len(other))
    return round(exact * 256) / 256


@pytest.mark.parametrize("dialect", ["auto", "rerank", "vllm-rerank"])
def test_an_embedding_model_is_no_reranker(server: ScriptedServer, dialect: str) -> None:
    def embedding(request: Request) -> Reply:
        query, texts = request.body["query"], request.body["documents"]
        scores = [cosine(query, text) for text in texts]
        results = [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]
        return Reply({"results": results})

    server.script = {key: VLLM[key] for key in VLLM if key[0] == "GET"}
    server.script["POST", "/v1/rerank"] = embedding
    with (
        Reranker(base_url=server.url, dialect=dialect) as reranker,
        pytest.raises(DetectionError, match="as the cosines of an embedding model do"),
    ):
        reranker.score(QUERY, DOCUMENTS)


def test_a_reranker_with_modest_scores_is_one(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url, dialect="vllm-rerank") as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
