"""A server that changes behind its URL: the same reranker goes on with the right scores."""

from __future__ import annotations

import asyncio
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from qwen3_reranker import DetectionError, Reranker, RerankerError, RerankerWarning, ServerError
from qwen3_reranker.remote.detection import Detector, Route

from support.doctor_servers import RIGHT as TEMPLATE
from support.doctor_servers import vllm
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

pytestmark = pytest.mark.usefixtures("at_once")

SCORE = ("POST", "/v1/score")


def plain(query: str, document: str) -> str:
    return query + document


def text_vllm(write: Callable[[str, str], str] = plain) -> Paths:
    """A vLLM without /classify, with or without --chat-template."""
    return {key: found for key, found in vllm(write).items() if key != ("POST", "/classify")}


def unknown_model(request: Request) -> Reply:
    """vLLM's answer to a name that it does not serve (0.32)."""
    name = request.body["model"]
    message = f"The model `{name}` does not exist."
    error = {"message": message, "type": "NotFoundError", "param": "model", "code": 404}
    return Reply({"error": error}, 404)


def serving(name: str, paths: Paths) -> Paths:
    """The same server with another served name, which is the only one that it answers to."""

    def only(answer: Handler) -> Handler:
        return lambda request: (
            answer(request) if request.body.get("model") == name else unknown_model(request)
        )

    model = {"id": name, "object": "model", "owned_by": "vllm", "root": "/m"}
    renamed = {key: only(answer) for key, answer in paths.items() if key[1] != "/tokenize"}
    renamed |= {key: answer for key, answer in paths.items() if key[0] == "GET"}
    return renamed | {("GET", "/v1/models"): lambda _: Reply({"data": [model]})}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(text_vllm()) as server:
        yield server


@pytest.fixture
def detections(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with every detection."""
    made: list[None] = []
    run = Detector.run

    async def counted(self: Detector) -> Route:
        made.append(None)
        return await run(self)

    monkeypatch.setattr(Detector, "run", counted)
    return made


# Tokens that no longer fit


@pytest.mark.parametrize("tokenizer", [None, "demo"])
@pytest.mark.parametrize(
    ("first", "second"), [(plain, TEMPLATE), (TEMPLATE, plain)], ids=["with", "without"]
)
def test_a_vllm_that_is_restarted_with_or_without_a_template(
    server: ScriptedServer, detections: list[None], tokenizer: str | None, first: Any, second: Any
) -> None:
    server.script = dict(text_vllm(first))
    with Reranker(base_url=server.url, tokenizer=tokenizer) as reranker:
        for write in (first, second, second, first):
            server.script = dict(text_vllm(write))
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            owner = "this client" if write is plain else "the server"
            assert f"template written by {owner}" in reranker.describe()
    assert len(detections) == 3


@pytest.mark.parametrize("tokenizer", [None, "demo"])
async def test_calls_at_the_same_time_share_one_detection(
    server: ScriptedServer, detections: list[None], tokenizer: str | None
) -> None:
    async with Reranker(base_url=server.url, tokenizer=tokenizer) as reranker:
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        server.script = dict(text_vllm(TEMPLATE))
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(20)))
    assert found == [RIGHT] * 20
    assert len(detections) == 2


def test_a_server_whose_token_counts_change_is_detected_again_once(
    server: ScriptedServer, detections: list[None]
) -> None:
    right = server.script[SCORE]

    def generous(request: Request) -> Reply:
        reply = right(request)
        if len(request.body["text_2"]) > 3:  # not in the probe
            reply.body["usage"]["prompt_tokens"] *= 2
        return reply

    server.always(generous, "/v1/score")
    with Reranker(base_url=server.url, tokenizer="demo") as reranker:
        for _ in range(5):
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert len(detections) == 2


@pytest.mark.parametrize("tokenizer", [None, "demo"])
@pytest.mark.parametrize(
    ("write", "given", "way_out"),
    [
        (TEMPLATE, "client", "Let only one side write the template: template='server'"),
        (plain, "server", "Or let this client write the template (template='client')"),
    ],
)
def test_a_template_that_is_given_wrongly_is_an_error_at_the_first_answer(
    server: ScriptedServer, tokenizer: str | None, write: Any, given: Any, way_out: str
) -> None:
    server.script = dict(text_vllm(write))
    settings: dict[str, Any] = {"dialect": "vllm-score", "tokenizer": tokenizer}
    with Reranker(base_url=server.url, **settings, template=given) as reranker:
        for _ in range(2):
            with pytest.raises(DetectionError, match=re.escape(way_out)):
                reranker.score(QUERY, DOCUMENTS)
        # Once the server is started otherwise, it works.
        server.script = dict(text_vllm(plain if write is TEMPLATE else TEMPLATE))
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    settings["template"] = "server" if given == "client" else "client"
    server.script, server.requests = dict(text_vllm(write)), []
    with Reranker(base_url=server.url, **settings) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert len(server.asked("/v1/score")) == 1  # nothing is probed


def test_a_changed_server_that_ignores_instructions_is_warned_about_at_once(
    server: ScriptedServer,
) -> None:
    with Reranker(base_url=server.url, tokenizer="demo") as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.script = dict(text_vllm(TEMPLATE))
        with pytest.warns(RerankerWarning, match="does not use it"):
            assert reranker.score(QUERY, DOCUMENTS, instruction=INSTRUCTION) == RIGHT


def test_an_instruction_that_the_previous_server_refused_is_sent_to_the_new_one(
    server: ScriptedServer,
) -> None:
    def refusing(request: Request) -> Reply:
        if "instruction" in request.body.get("kwargs", ""):  # as Xinference 4.1 with vLLM
            return Reply({"detail": "Unexpected keyword arguments"}, 500)
        return rerank(request)

    version = {"version": "4.1.0", "full-revisionid": "0"}
    server.script = {
        ("GET", "/v1/cluster/version"): lambda _: Reply(version),
        ("POST", "/v1/rerank"): refusing,
    }
    with Reranker(base_url=server.url, instruction=INSTRUCTION) as reranker:
        with pytest.warns(RerankerWarning, match="xinference at .* does not use it"):
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.script = {key: VLLM[key] for key in VLLM if key[1] != "/v1/rerank"}
        found = reranker.score(QUERY, DOCUMENTS)
    assert found == [relevance(QUERY, document, INSTRUCTION) for document in DOCUMENTS]


async def test_a_doubt_that_arises_during_a_detection_leads_to_another_one(
    server: ScriptedServer, detections: list[None], caplog: pytest.LogCaptureFixture
) -> None:
    """As when a vLLM is restarted with a template, and a proxy drops a connection to it."""
    given: dict[str, Any] = {"dialect": "vllm-score", "template": "client", "tokenizer": "demo"}
    answered, listed = threading.Event(), threading.Event()

    async def until(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.01)

    async with Reranker(base_url=server.url, **given) as reranker:
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        templated = text_vllm(TEMPLATE)
        server.script = {
            **templated,
            SCORE: lambda request: replace(templated[SCORE](request), hold=answered),
            ("GET", "/version"): lambda _: Reply({"version": "0.32.0"}, hold=listed),
        }
        slow = asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS))
        await until(lambda: len(server.asked("/v1/score")) == 2)
        server.first(Reply(b"", status=None), path="/v1/score")
        lost = asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS))
        await until(lambda: len(server.asked("/version")) == 2)
        with caplog.at_level("INFO"):
            answered.set()
            await until(lambda: "may have changed" in caplog.text)
        listed.set()
        for call in (slow, lost):
            with pytest.raises(DetectionError, match="Let only one side write the template"):
                await call
    assert len(detections) >= 3


# Names and paths that are gone


@pytest.mark.parametrize("given", [{}, {"dialect": "vllm-score", "template": "client"}])
async def test_a_model_that_gets_another_name(
    server: ScriptedServer, detections: list[None], given: dict[str, Any]
) -> None:
    server.script = dict(serving("first", text_vllm()))
    async with Reranker(base_url=server.url, **given) as reranker:
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert reranker.model == "first"
        server.script = dict(serving("second", text_vllm()))
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(20)))
        assert found == [RIGHT] * 20
        assert reranker.model == "second"
    assert len(detections) == 2


def test_another_endpoint_in_place_of_the_one_that_was_used(server: ScriptedServer) -> None:
    server.script = dict(vllm())
    with Reranker(base_url=server.url, tokenizer="demo") as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert "vllm-classify" in reranker.describe()
        server.script = dict(text_vllm(TEMPLATE))
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert "vllm-score" in reranker.describe()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "The model `m` does not exist."),
        (405, "Method Not Allowed"),
        (400, "Model not found in the model list, uid: m"),  # Xinference 4.1
        (400, "/rerank: Invalid model name passed in model=m. Call `/v1/models`"),  # LiteLLM 1.106
    ],
)
def test_a_repeated_refusal_is_raised_after_one_detection(
    server: ScriptedServer, detections: list[None], status: int, message: str
) -> None:
    given: dict[str, Any] = {"dialect": "vllm-score", "template": "client"}
    with Reranker(base_url=server.url, **given) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.always(Reply({"detail": message}, status), "/v1/score")
        for _ in range(5):
            with pytest.raises(ServerError, match=re.escape(f"{status}: {message}")) as caught:
                reranker.score(QUERY, DOCUMENTS)
            assert caught.value.status == status
    assert len(detections) == 2
    assert len(server.asked("/v1/score")) == 6


def test_an_accidental_refusal_does_not_hide_a_change(server: ScriptedServer) -> None:
    """As when an ingress is reloaded, and then the model gets another name."""
    server.script = dict(serving("first", text_vllm()))
    with Reranker(base_url=server.url) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.first(Reply({"detail": "Not Found"}, 404), path="/v1/score")
        with pytest.raises(ServerError, match="Not Found"):
            reranker.score(QUERY, DOCUMENTS)
        server.script = dict(serving("second", text_vllm()))
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT


def test_a_server_without_a_usable_endpoint_is_named_at_every_call(
    server: ScriptedServer, detections: list[None]
) -> None:
    with Reranker(base_url=server.url) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.script = {}
        for _ in range(3):
            with pytest.raises(DetectionError, match="scores as a Qwen3 reranker"):
                reranker.score(QUERY, DOCUMENTS)
        assert len(detections) == 4
        server.script = dict(text_vllm(TEMPLATE))
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT


# Connections that are lost


@pytest.mark.parametrize("tokenizer", [None, "demo"])
def test_another_server_after_a_lost_connection(
    server: ScriptedServer, tokenizer: str | None
) -> None:
    server.script = dict(serving("first", vllm()))
    with Reranker(base_url=server.url, tokenizer=tokenizer, max_retries=0) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.__exit__()
        for _ in range(2):
            with pytest.raises(RerankerError, match="no connection"):
                reranker.score(QUERY, DOCUMENTS)
        server.script = dict(serving("second", text_vllm(TEMPLATE)))
        server.__enter__()
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert reranker.model == "second"
        described = reranker.describe()
        assert "vllm-score" in described and "template written by the server" in described


def test_what_is_told_of_a_restarted_server_is_not_outdated(server: ScriptedServer) -> None:
    server.script = dict(serving("first", text_vllm()))
    with Reranker(base_url=server.url, max_retries=0) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.first(Reply(b"", status=None), path="/v1/score")
        with pytest.raises(RerankerError, match="no connection"):
            reranker.score(QUERY, DOCUMENTS)
        server.script = dict(serving("second", text_vllm(TEMPLATE)))
        described = reranker.describe()
        assert "template written by the server" in described
        assert "model second" in described
        assert reranker.model == "second"


async def test_many_calls_over_a_restart(server: ScriptedServer, detections: list[None]) -> None:
    async with Reranker(base_url=server.url, tokenizer="demo") as reranker:
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        lost = Reply(b"", status=None)
        server.first(*[lost] * 20, path="/v1/score")
        server.script = dict(text_vllm(TEMPLATE))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            calls = (reranker.ascore(QUERY, DOCUMENTS) for _ in range(20))
            assert await asyncio.gather(*calls) == [RIGHT] * 20
    assert len(detections) <= 4
