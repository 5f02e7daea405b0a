"""Requests as clients send them, and as nobody should: each gets an answer in its language."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import Reranker
from qwen3_reranker.gateway import AliasConfig, GatewayConfig, Limits, create_app
from qwen3_reranker.gateway.paths import RERANK, SCORE

from support.gateway import RelevanceScorer, gateway
from support.scripted_server import DOCUMENTS, QUERY

RERANKED = {"query": QUERY, "documents": DOCUMENTS}
OBJECT = "an object with a string under 'text'"
NESTED = json.loads("[" * 300 + "]" * 300)


async def send(
    content: Any, path: str = "/v1/rerank", scorer: RelevanceScorer | None = None, **config: Any
) -> httpx.Response:
    """Post a body, as it is if it is bytes."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    async with gateway(scorer or RelevanceScorer(), GatewayConfig(**config)) as client:
        return await client.post(path, content=body)


def message_of(response: httpx.Response) -> str:
    """Return the message of an error, and check that all clients find it."""
    body, path = response.json(), response.request.url.path
    if path.startswith("/v2/"):
        assert set(body) == {"message"}
        return str(body["message"])
    assert body["error"]["code"] == response.status_code
    assert body["error"]["type"]
    if path in RERANK:
        assert body["error"]["message"] == body["message"] == body["detail"]
    return str(body["error"]["message"])


# What is accepted


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens_per_doc": None, "top_n": None, "return_documents": None},
        {"max_chunks_per_doc": 10, "overlap_tokens": 80, "return_len": "true"},
        {"encoding_format": "float", "truncate": "END", "rank_fields": ["text"], "priority": 0},
        {"model": None, "instruction": None, "instruct": None, "kwargs": None},
        {"kwargs": "{}"},
        {"kwargs": ""},
        {"top_n": 7.0, "return_documents": "false"},
    ],
)
async def test_fields_that_clients_add_harm_nothing(more: dict[str, Any]) -> None:
    response = await send(RERANKED | more)
    assert [len(result) for result in response.json()["results"]] == [2] * 7


@pytest.mark.parametrize(
    "more",
    [
        {"instruction": "mine"},
        {"instruct": "mine"},
        {"kwargs": '{"instruction": "mine"}'},
        {"kwargs": {"instruct": "mine"}},
        {"chat_template_kwargs": {"instruction": "mine"}},
        {"instruction": "mine", "instruct": "other", "kwargs": '{"instruction": "other"}'},
        {"instruction": " ", "instruct": "mine"},
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", RERANKED),
        ("/rerank", {"query": QUERY, "texts": DOCUMENTS}),
        ("/score", {"text_1": QUERY, "text_2": DOCUMENTS}),
    ],
)
async def test_an_instruction_is_found_under_each_name(
    path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    scorer = RelevanceScorer()
    await send(body | more, path, scorer, default=AliasConfig(instruction="other"))
    assert scorer.calls == [(QUERY, DOCUMENTS, "mine")]


async def test_blank_and_equal_and_long_documents_fail_nothing() -> None:
    scorer = RelevanceScorer()
    documents = ["", "a", " \n", "a", "long " * 5000]
    response = await send({"query": QUERY, "documents": documents}, scorer=scorer)
    scores = {hit["index"]: hit["relevance_score"] for hit in response.json()["results"]}
    assert sorted(scores) == [0, 1, 2, 3, 4]
    assert (scores[0], scores[2], scores[1]) == (0.0, 0.0, scores[3])
    assert scorer.calls[0][1] == ["a", documents[4]]
    assert response.json()["meta"]["warnings"] == [
        "the end of 1 of the documents was cut off: it was too long"
    ]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/v1/rerank", {"query": QUERY, "documents": []}, ["results"]),
        ("/rerank", {"query": QUERY, "texts": []}, []),
        ("/score", {"text_1": QUERY, "text_2": []}, ["data"]),
    ],
)
async def test_no_documents_give_an_empty_answer(path: str, body: Any, answer: list[str]) -> None:
    response = await send(body, path)
    found = response.json()
    assert (response.status_code, found[answer[0]] if answer else found) == (200, [])


async def test_a_character_that_a_client_cut_in_half_is_replaced() -> None:
    body = (
        rb'{"query": "a\udc00", "documents": ["\ud83d x", "\ud83d\ude00"], "return_documents": 1}'
    )
    results = (await send(body)).json()["results"]
    assert {hit["index"]: hit["document"]["text"] for hit in results} == {0: "\ufffd x", 1: "😀"}


async def test_log_odds_of_blank_texts_are_numbers() -> None:
    body = {"query": QUERY, "texts": ["", DOCUMENTS[0]], "raw_scores": True}
    first, last = (await send(body, "/rerank")).json()
    assert (first["index"], last["index"]) == (1, 0)
    assert last["score"] < -100 < first["score"] < 0


@pytest.mark.parametrize("path", [*RERANK, *SCORE])
async def test_a_slash_at_the_end_of_a_path_changes_nothing(path: str) -> None:
    body = {**RERANKED, "text_1": "a", "text_2": "b"}
    one, other = await send(body, path), await send(body, f"{path}/")
    assert one.status_code == other.status_code == 200
    assert one.json() | {"id": None, "created": None} == other.json() | {
        "id": None,
        "created": None,
    }


# What is refused


@pytest.mark.parametrize("path", [*RERANK, *SCORE])
@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "the body is empty"),
        (b"{", 400, "the body is not JSON"),
        (b"\xff", 400, "the body is not UTF-8 text"),
        (b"[]", 400, "the body must be a JSON object"),
        (b"[" * 100_000, 400, "the body is not JSON"),
        (b"{}", 422, ""),
        ({"query": "", "documents": ["a"], "text_1": "", "text_2": ["a"]}, 422, "query is blank"),
        ({"kwargs": "{", **RERANKED, "text_1": "a", "text_2": "b"}, 422, "kwargs: give a JSON obj"),
        ({"kwargs": "[]", **RERANKED, "text_1": "a", "text_2": "b"}, 422, "kwargs: give a JSON ob"),
    ],
)
async def test_what_cannot_be_used_is_named(
    path: str, content: Any, status: int, message: str
) -> None:
    response = await send(content, path)
    assert response.status_code == status
    assert message_of(response).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": None}, "query is null: give a string"),
        ({"query": 3}, "query is 3: give a string"),
        ({"documents": "text"}, 'documents is "text": give a list'),
        ({"documents": [None]}, f"documents[0] is null: give a string or {OBJECT}"),
        ({"documents": [{"text": 1}]}, f'documents[0] is {{"text":1}}: give a string or {OBJECT}'),
        ({"documents": ["a", {}]}, f"documents[1] is {{}}: give a string or {OBJECT}"),
        ({"query": NESTED}, "query is a deeply nested value: give a string"),
        (
            {"documents": [NESTED]},
            f"documents[0] is a deeply nested value: give a string or {OBJECT}",
        ),
        ({"top_n": "many"}, 'top_n is "many": give a whole number'),
        ({"top_n": 1.5}, "top_n is 1.5: give a whole number"),
        ({"top_n": True}, "top_n is true: give a whole number"),
        ({"top_n": {"a": "b" * 99}}, f'top_n is {{"a":"{"b" * 54}...: give a whole number'),
        ({"return_documents": "maybe"}, 'return_documents is "maybe": give true or false'),
        ({"return_documents": 2}, "return_documents is 2: give true or false"),
        ({"instruction": 3}, "instruction is 3: give a string"),
        ({"kwargs": 3}, "kwargs is 3: give an object or a string"),
        ({"chat_template_kwargs": "x"}, 'chat_template_kwargs is "x": give an object'),
        ({"kwargs": '{"instruction": 3}'}, "kwargs.instruction: give a string"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named(change: dict[str, Any], message: str) -> None:
    response = await send(RERANKED | change)
    assert (response.status_code, message_of(response)) == (422, message)


async def test_a_field_that_is_missing_is_named() -> None:
    assert message_of(await send({"query": QUERY})) == "documents is missing"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"text_1": "a"}, "text_1 and text_2 are missing"),
        ({"text_1": ["a", "b"], "text_2": ["c"]}, "text_1 has 2 texts and text_2 1: give one que"),
        ({"queries": [], "documents": ["c"]}, "queries has 0 texts and documents 1: give one que"),
        ({"text_1": "a", "text_2": 3}, f"text_2 is 3: give a string or {OBJECT} or a list"),
        (
            {"text_1": "a", "text_2": ["b", 3]},
            f"text_2[1] is 3: give a string or {OBJECT}",
        ),
    ],
)
async def test_pairs_that_do_not_match_are_named(body: dict[str, Any], message: str) -> None:
    response = await send(body, "/v1/score")
    assert response.status_code == 422
    assert message_of(response).startswith(message)


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"max_documents": 6}, 422, "the request has 7 documents, and at most 6 are accepted"),
        ({"max_characters": 299}, 413, "the request has 300 characters, and at most 299 are acc"),
        ({"max_body": 300}, 413, "the body is larger than 300 bytes"),
    ],
)
async def test_a_request_that_is_too_large_is_refused(
    limits: dict[str, int], status: int, message: str
) -> None:
    scorer = RelevanceScorer()
    length = sum(map(len, [QUERY, *DOCUMENTS]))
    response = await send(
        RERANKED | {"instruction": "i" * (300 - length)}, scorer=scorer, limits=Limits(**limits)
    )
    assert response.status_code == status
    assert message_of(response).startswith(message)
    assert scorer.calls == []
    enough = {name: value + 500 for name, value in limits.items()}
    assert (await send(RERANKED, limits=Limits(**enough))).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rerank", {"query": QUERY, "documents": [3] * 7}),
        ("/rerank", {"query": QUERY, "texts": [3] * 7}),
        ("/v1/ranking", {"query": {"text": QUERY}, "passages": [3] * 7}),
        ("/score", {"text_1": QUERY, "text_2": [3] * 7}),
        ("/score", {"queries": [3] * 7, "items": DOCUMENTS}),
    ],
)
async def test_documents_are_counted_before_they_are_validated(path: str, body: Any) -> None:
    # Validating the millions that fit into a body would hold up all other requests for minutes.
    response = await send(body, path, limits=Limits(max_documents=6))
    assert response.status_code == 422
    assert "the request has 7 documents, and at most 6 are accepted" in response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nothing", 404, "there is no '/nothing' here: the paths are "),
        ("POST", "/v1/v1/rerank", 404, "there is no '/v1/v1/rerank' here"),
        ("GET", "/v1/rerank", 405, "/v1/rerank does not allow GET"),
        ("POST", "/v1/models", 405, "/v1/models does not allow POST"),
    ],
)
async def test_paths_and_methods_that_are_not_there_are_named(
    method: str, path: str, status: int, message: str
) -> None:
    async with gateway(RelevanceScorer()) as client:
        response = await client.request(method, path)
    assert response.status_code == status
    assert message_of(response).startswith(message)
    assert ("Leave /v1 out of the base URL" in message_of(response)) == path.startswith("/v1/v")


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/info", "/health", "/ready", "/docs"])
async def test_what_can_be_read_answers_head(path: str) -> None:
    async with gateway(RelevanceScorer()) as client:
        assert (await client.head(path)).status_code in (200, 503)  # while it starts


@pytest.mark.parametrize("coding", ["identity", "Identity"])
async def test_a_body_that_is_declared_uncompressed_is_accepted(coding: str) -> None:
    async with gateway(RelevanceScorer()) as client:
        response = await client.post("/rerank", json=RERANKED, headers={"Content-Encoding": coding})
    assert response.status_code == 200


async def test_compressed_bodies_are_refused() -> None:
    async with gateway(RelevanceScorer()) as client:
        response = await client.post("/rerank", content=b"x", headers={"Content-Encoding": "gzip"})
    assert response.status_code == 415
    assert "send the body uncompressed" in message_of(response)


@pytest.mark.parametrize("texts", [3, ["a", 3], None])
async def test_tei_gets_its_own_errors(texts: Any) -> None:
    response = await send({"query": QUERY, "texts": texts}, "/rerank")
    assert response.status_code == 422
    assert response.json()["error"].startswith("texts")
    assert response.json()["error_type"] == "Validation"


# Whatever is sent

APP = create_app(Reranker(scorer=RelevanceScorer()))
_fields = [
    *("query", "documents", "texts", "top_n", "return_documents", "instruction", "kwargs"),
    *("text_1", "text_2", "queries", "items", "model", "raw_scores", "text"),
]
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_fields), inner, max_size=4)
    ),
    max_leaves=10,
)
_bodies = st.dictionaries(st.sampled_from(_fields), _values, max_size=6)
_dump: Callable[[Any], bytes] = lambda value: json.dumps(value).encode()  # noqa: E731


@given(path=st.sampled_from([*RERANK, *SCORE]), content=_bodies.map(_dump) | st.binary())
async def test_every_body_gets_scores_or_a_reason(path: str, content: bytes) -> None:
    transport = httpx.ASGITransport(APP)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        response = await client.post(path, content=content)
    assert response.status_code in (200, 400, 404, 422)
    if response.status_code == 200:
        assert "NaN" not in response.text
    else:
        body = response.json()
        message = body["error"] if "error_type" in body else message_of(response)
        assert message and "nput should" not in message  # as pydantic would say
