"""Which dialect and whose template a server is settled on, from what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from qwen3_reranker import dialects as package
from qwen3_reranker.dialects import (
    Dialect,
    HttpRequest,
    ScoreRequest,
    TemplateBy,
    dialects,
    find,
    register,
)
from qwen3_reranker.errors import AnswerError, ServerError
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.environment_keys import environment_key, withheld_key
from qwen3_reranker.remote.responses import JsonResponse, RetryableError

from support.fake_reranker import DEMO, NO, SGLANG, TEI, VLLM, YES, FakeReranker

INFINITY = {"/v1/models": {"data": [{"id": "m", "owned_by": "infinity"}]}}


async def test_a_vllm_is_asked_with_token_ids() -> None:
    server = FakeReranker({"/classify": "classify", "/v1/rerank": "rerank"}, VLLM)
    route = await server.detector(tokenizer=DEMO).run()
    assert (route.dialect.name, route.template_by, route.path) == (
        *("vllm-classify", "client"),
        "/classify",
    )
    assert (route.model, route.labels, route.logits) == ("m", (YES, NO), False)
    assert route.encoder.max_length == 2047
    assert route.outcome is not None and route.outcome.passed
    bodies = [body for path, body in server.asked if path == "/classify"]
    assert len(bodies) == 2 and all(isinstance(body["input"][0][0], int) for body in bodies)
    text = str(route)
    for part in ("vLLM 0.32.0", "vllm-classify at /classify", "token ids", "this client", "2047"):
        assert part in text


@pytest.mark.parametrize("tokenizer", [None, DEMO], ids=["text", "tokenizer"])
@pytest.mark.parametrize("usage", [True, False], ids=["counts", "silent"])
@pytest.mark.parametrize(("template", "template_by"), [(True, "server"), (False, "client")])
@pytest.mark.parametrize(
    ("paths", "gets", "name"),
    [
        ({"/v1/score": "score"}, VLLM, "vllm-score"),
        ({"/v1/rerank": "rerank"}, VLLM, "vllm-rerank"),
        ({"/rerank": "rerank"}, VLLM, "vllm-rerank"),
        ({"/rerank": "tei"}, TEI, "tei"),
        # An unknown kind, in the three shapes that /rerank has.
        ({"/rerank": "rerank"}, {}, "rerank"),
        ({"/v1/reranks": "rerank"}, {}, "rerank"),
        ({"/v1/rerank": "bare"}, {}, "rerank"),
        ({"/rerank": "tei"}, {}, "tei"),
        ({"/v1/score": "score"}, {}, "vllm-score"),
    ],
)
async def test_who_writes_the_template_is_detected(
    paths: dict[str, Any],
    gets: dict[str, Any],
    name: str,
    template: bool,
    template_by: TemplateBy,
    usage: bool,
    tokenizer: str | None,
) -> None:
    server = FakeReranker(paths, gets, template=template, usage=usage)
    route = await server.detector(tokenizer=tokenizer).run()
    assert (route.dialect.name, route.template_by, route.path) == (name, template_by, *paths)


@pytest.mark.parametrize(("template", "template_by"), [(True, "server"), (False, "client")])
async def test_the_tokens_counted_say_more_than_the_scores(
    template: bool, template_by: TemplateBy
) -> None:
    def strong(right: bool, templates: int) -> float:  # as large models may answer
        sure = 0.97 if templates == 1 else 0.999
        return sure if right else 1 - sure

    server = FakeReranker({"/v1/score": "score"}, VLLM, template=template, scores=strong)
    route = await server.detector(tokenizer=DEMO).run()
    assert (route.dialect.name, route.template_by) == ("vllm-score", template_by)
    assert route.outcome is not None and 0.97 in route.outcome.scores[0]


@pytest.mark.parametrize(
    ("base_url", "paths", "path"),
    [
        ("http://h/v1", {"/v1/rerank": "rerank"}, "/v1/rerank"),
        ("http://h/v1/rerank", {"/v1/rerank": "rerank", "/classify": "classify"}, "/v1/rerank"),
        ("http://h/rerank", {"/rerank": "rerank", "/v1/rerank": "tei"}, "/rerank"),
    ],
)
async def test_an_endpoint_that_is_given_is_the_one_asked(
    base_url: str, paths: dict[str, Any], path: str
) -> None:
    server = FakeReranker(paths, VLLM, template=True)
    route = await server.detector(base_url).run()
    assert route.path == path
    others = {asked for asked, _ in server.asked} - {path, "/tokenize"}
    assert not others or base_url == "http://h/v1"


async def test_sglang_is_asked_by_labels_or_in_text() -> None:
    causal = FakeReranker({"/v1/score": "sglang_score", "/v1/rerank": "bare"}, SGLANG)
    route = await causal.detector(tokenizer=DEMO).run()
    assert (route.dialect.name, route.labels) == ("sglang-score", (YES, NO))
    two = FakeReranker(
        {"/v1/score": "no_yes", "/v1/rerank": "bare", "/v1/classify": "two_labels"},
        SGLANG | {"/model_info": {"model_path": "/m", "is_generation": False}},
    )
    route = await two.detector(tokenizer=DEMO).run()
    assert (route.dialect.name, route.template_by) == ("sglang-classify", "client")


async def test_the_servers_tokenizer_says_the_labels() -> None:
    server = FakeReranker({"/v1/score": "sglang_score", "/tokenize": "tokenize"}, SGLANG)
    route = await server.detector().run()
    assert (route.dialect.name, route.labels) == ("sglang-score", (YES, NO))
    assert route.encoder.builder is None and route.encoder.can_truncate
    generative = FakeReranker({"/generative_scoring": "generative", "/tokenize": "tokenize"}, VLLM)
    route = await generative.detector().run()
    assert (route.dialect.name, route.labels) == ("vllm-generative", (YES, NO))
    assert route.encoder.max_length == 2047


@pytest.mark.parametrize("answer", [None, [], {}, {"tokens": "x"}, {"tokens": ["a"]}, 5])
async def test_a_tokenizer_that_answers_nonsense_is_an_error(answer: Any) -> None:
    server = FakeReranker({"/v1/score": "sglang_score", "/tokenize": "tokenize"}, SGLANG)
    server.tokenize = lambda body: answer  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="tokens|no token ids"):
        await server.detector(dialect=find("sglang-score")).run()


async def test_infinity_counts_characters_and_is_not_taken_for_doubled() -> None:
    server = FakeReranker({"/rerank": "rerank"}, INFINITY)
    plain = server.rerank

    def counting(body: Any) -> Any:
        answer = plain(body)
        server.tokens = sum(len(body["query"] + document) for document in body["documents"])
        return answer

    server.rerank = counting  # type: ignore[method-assign]
    route = await server.detector(tokenizer=DEMO).run()
    assert (route.dialect.name, route.template_by) == ("infinity", "client")
    assert route.outcome is not None and route.outcome.doubled


async def test_log_odds_are_noticed() -> None:
    server = FakeReranker({"/rerank": "tei"}, TEI, scores=lambda right, _: 4.2 if right else -3.1)
    route = await server.detector().run()
    assert route.logits and "log-odds" in str(route)


async def test_given_dialect_and_template_are_not_probed() -> None:
    server = FakeReranker({}, VLLM)
    route = await server.detector(dialect=find("vllm-score"), template="server").run()
    assert (route.dialect.name, route.template_by, route.path) == (
        "vllm-score",
        "server",
        "/v1/score",
    )
    assert route.outcome is None and "not probed" in str(route)
    assert not [path for path, _ in server.asked if path != "/tokenize"]


async def test_a_model_that_is_given_is_the_one_named() -> None:
    server = FakeReranker({"/v1/rerank": "rerank"}, VLLM)
    route = await server.detector(model="mine").run()
    assert route.model == "mine"
    assert {body["model"] for path, body in server.asked if path == "/v1/rerank"} == {"mine"}


@pytest.fixture
def acme(clean_register: None) -> type[Dialect]:
    class Acme(Dialect):
        name = "acme"
        paths = ("/acme/rank",)

        def build(self, request: ScoreRequest) -> HttpRequest:
            return HttpRequest({"query": request.query, "documents": list(request.documents)})

        def parse(self, answer: Any, count: int) -> list[float]:
            return package.scores_by_index(package.require_list(answer, "results"), count)

    return Acme


async def test_a_registered_dialect_is_detected(acme: type[Dialect]) -> None:
    server = FakeReranker({"/acme/rank": "rerank"}, template=True)
    register(acme)
    for base_url in ("http://h", "http://h/acme/rank"):
        route = await server.detector(base_url).run()
        assert (route.dialect.name, route.path) == ("acme", "/acme/rank")


@pytest.mark.parametrize("kind", [None, "Acme", "TEI"])
@pytest.mark.parametrize("gets", [{}, VLLM, INFINITY], ids=["unknown", "vLLM", "Infinity"])
async def test_a_registered_dialect_is_detected_whatever_its_kind(
    acme: type[Dialect], kind: str | None, gets: Any
) -> None:
    acme.kind = kind
    register(acme)
    server = FakeReranker({"/acme/rank": "rerank"}, gets, template=True)
    assert (await server.detector().run()).dialect.name == "acme"


async def test_a_registered_dialect_is_tried_after_the_packages_own(acme: type[Dialect]) -> None:
    acme.kind = "Acme"
    register(acme)
    server = FakeReranker({"/acme/rank": "rerank", "/v1/rerank": "rerank"}, VLLM, template=True)
    assert (await server.detector().run()).dialect.name == "vllm-rerank"


async def test_a_dialect_may_be_given_without_being_registered(acme: type[Dialect]) -> None:
    server = FakeReranker({"/acme/rank": "rerank"}, template=True)
    route = await server.detector(dialect=acme()).run()
    assert route.dialect.name == "acme" and type(route.dialect) is acme


@pytest.mark.parametrize(
    ("base_url", "name", "path", "method", "model"),
    [
        (
            "https://api.siliconflow.cn/v1",
            *("siliconflow", "/v1/rerank", "rerank", "Qwen/Qwen3-Reranker-8B"),
        ),
        (
            "https://dashscope.aliyuncs.com",
            *("dashscope", "/compatible-api/v1/reranks", "rerank", "qwen3-rerank"),
        ),
        (
            "https://api.deepinfra.com/v1/inference/Qwen/Qwen3-Reranker-4B",
            "deepinfra",
            "/v1/inference/Qwen/Qwen3-Reranker-4B",
            *("scores_alone", "Qwen/Qwen3-Reranker-4B"),
        ),
        ("https://api.jina.ai", *("jina", "/v1/rerank", "rerank", "jina-reranker-v3")),
        ("https://api.cohere.com/v1/rerank", *("cohere-v1", "/v1/rerank", "rerank", "rerank-v3.5")),
        ("https://api.cohere.com", *("cohere-v2", "/v2/rerank", "rerank", "rerank-v3.5")),
    ],
)
async def test_hosted_services_are_known_by_their_host(
    base_url: str, name: str, path: str, method: str, model: str
) -> None:
    server = FakeReranker({path: method}, template=True, usage=False)
    route = await server.detector(base_url).run()
    assert (route.dialect.name, route.template_by, route.model) == (name, "server", model)
    assert server.got == [] and {asked for asked, _ in server.asked} == {path}
    assert server.adopted[0][0] == name


async def test_the_key_of_a_kind_opens_the_list_of_models() -> None:
    gets: dict[str, Any] = {"/version": {"version": "0.32.0"}}
    server = FakeReranker({"/classify": "classify", "/tokenize": "tokenize"}, gets)
    refused = ServerError("http://h/v1/models answered 401: Unauthorized", 401)
    server.gets["/v1/models"] = refused
    route = await server.detector(tokenizer=DEMO).run()
    assert (route.model, route.encoder.max_length) == (None, 2047)  # told by /tokenize

    class Opening(FakeReranker):
        """Lists its models once it has a key."""

        def adopt_key(self, dialects: Sequence[Dialect]) -> bool:
            super().adopt_key(dialects)
            self.gets["/v1/models"] = VLLM["/v1/models"]
            return bool(dialects)

    server = Opening(server.paths, gets)
    route = await server.detector(tokenizer=DEMO).run()
    assert route.model == "m"
    assert all(name.startswith("vllm") for name in server.adopted[-1])


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set all environment variables that hold keys."""
    for dialect in dialects():
        for name in dialect.key_variables:
            monkeypatch.setenv(name, f"key of {name}")


def key_for(url: str, *names: str) -> str | None:
    """Return the environment's key that a server gets in one of the dialects."""
    found = environment_key(Address.parse(url), [find(name) for name in names])
    return None if found is None else str(found.key.reveal())


HOSTED = [dialect.name for dialect in dialects() if dialect.hosts]
OTHERS = [dialect.name for dialect in dialects() if not dialect.hosts]


def test_a_hosted_services_key_goes_to_its_own_hosts_alone(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("http://localhost", "https://notjina.ai", "https://x.oss-cn-a.aliyuncs.com"):
        assert key_for(url, *HOSTED) is None
    assert key_for("https://api.jina.ai", *HOSTED) == "key of JINA_API_KEY"
    assert key_for("https://api.cohere.com", "jina", "cohere-v2") == "key of CO_API_KEY"
    monkeypatch.delenv("CO_API_KEY")
    assert key_for("https://api.cohere.com", "cohere-v2") == "key of COHERE_API_KEY"
    monkeypatch.setenv("COHERE_API_KEY", "")
    assert key_for("https://api.cohere.com", "cohere-v2") is None


def test_a_hosted_services_key_is_not_sent_in_the_clear(keys: None) -> None:
    for dialect in map(find, HOSTED):
        for host in dialect.hosts:
            assert key_for(f"https://{host}", dialect.name) is not None
            assert key_for(f"http://{host}", dialect.name) is None
            told = withheld_key(Address.parse(f"http://{host}"), [dialect])
            assert told and "is sent over https only" in told


def test_other_keys_stay_in_private_networks(keys: None) -> None:
    assert key_for("http://localhost:8000", "vllm-classify") == "key of VLLM_API_KEY"
    for url in ("http://8.8.8.8", "https://vllm.example.com", "https://api.jina.ai"):
        assert key_for(url, *OTHERS) is None
        told = withheld_key(Address.parse(url), [find("litellm")])
        assert told and "give api_key= to send it to" in told
    assert withheld_key(Address.parse("http://localhost"), [find("litellm"), find("jina")]) is None


async def test_answers_of_another_shape_move_on_to_the_next_dialect() -> None:
    server = FakeReranker({"/classify": "rerank", "/v1/rerank": "rerank"}, VLLM, template=True)
    server.paths["/classify"] = "bare"
    assert (await server.detector().run()).dialect.name == "vllm-rerank"
    with pytest.raises((ServerError, AnswerError)):
        await server.detector(dialect=find("vllm-classify")).run()


async def test_a_transient_failure_does_not_select_a_lesser_dialect() -> None:
    accident = RetryableError("http://h/classify answered 500: oops", 500, here=False)

    class Recovering(FakeReranker):
        """Recovers after the two requests of the probe."""

        async def post(self, path: str, body: Mapping[str, Any]) -> JsonResponse:
            try:
                return await super().post(path, body)
            finally:
                if sum(asked == "/classify" for asked, _ in self.asked) == 2:
                    self.paths["/classify"] = "classify"

    paths: dict[str, str | ServerError] = {"/classify": accident, "/v1/rerank": "rerank"}
    server = Recovering(paths, VLLM, template=True)
    assert (await server.detector().run()).dialect.name == "vllm-classify"
    server.paths["/classify"] = accident
    assert (await server.detector().run()).dialect.name == "vllm-rerank"
