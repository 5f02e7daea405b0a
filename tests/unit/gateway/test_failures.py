"""What clients are told where scoring fails, and whether the gateway says that it is ready."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from qwen3_reranker import (
    AnswerError,
    CheckpointError,
    ClosedError,
    DetectionError,
    EngineError,
    InputError,
    PromptTooLongError,
    Reranker,
    RerankerError,
    RerankerWarning,
    ScoreError,
    Scores,
    ServerError,
    ServerUnavailableError,
    UnsupportedFeatureError,
)
from qwen3_reranker.gateway import AliasConfig, GatewayConfig, create_app, readiness
from qwen3_reranker.gateway.backend import Backend

from support.gateway import RelevanceScorer, client_of, gateway
from support.helpers import AnsweringScorer
from support.scripted_server import DOCUMENTS, QUERY, Reply, ScriptedServer

BODY = {"query": QUERY, "documents": DOCUMENTS}


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/ready")).status_code != 200:
            await asyncio.sleep(0.005)


async def failure(error: Exception, path: str = "/v1/rerank", body: Any = BODY) -> httpx.Response:
    scorer = RelevanceScorer()
    scorer.error = error
    async with gateway(scorer) as client:
        return await client.post(path, json=body)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (InputError("no"), 422, None),
        (PromptTooLongError("no"), 422, None),
        (UnsupportedFeatureError("no"), 422, None),
        (EngineError("no"), 500, None),
        (ScoreError("no"), 500, None),
        (CheckpointError("no"), 500, None),
        (ServerError("no", 400), 502, None),
        (ServerUnavailableError("no", 429), 503, "1"),
        (ClosedError("no"), 503, "1"),
    ],
)
async def test_each_failure_has_a_status(
    error: Exception, status: int, retry_after: str | None
) -> None:
    response = await failure(error)
    assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
    message = response.json()["error"]["message"]
    assert message == response.json()["detail"]
    if isinstance(error, InputError):  # it is about the request
        assert message == "no"
    else:
        assert f"(request ID {response.headers['x-request-id']}; see the gateway's log)" in message


TOO_LONG = "This model's maximum context length is 2048 tokens, and the prompt has 4000"


@pytest.mark.parametrize(
    ("refusal", "status", "message"),
    [
        (Reply({"message": TOO_LONG}, 400), 413, "a document is too long for the servers behind"),
        (Reply({"message": "input is malformed"}, 400), 502, "a server behind the gateway refused"),
        (Reply({"message": "input is malformed"}, 422), 502, "a server behind the gateway refused"),
    ],
)
async def test_a_request_that_a_server_refuses_says_nothing_about_others(
    refusal: Reply, status: int, message: str
) -> None:
    with ScriptedServer() as server:
        make = partial(Reranker, base_url=server.url)
        async with client_of(create_app(make)) as client:
            await until_ready(client)
            server.first(refusal)
            response = await client.post("/rerank", json=BODY | {"documents": DOCUMENTS[:1]})
            assert response.status_code == status
            assert response.json()["message"].startswith(message)
            assert "2048" not in response.text
            assert "qwen3_reranker_ready 1.0" in (await client.get("/metrics")).text


INTERNAL = "http://internal:8000 said 'no': give base_url= another server"


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ServerError(INTERNAL, 400), logging.DEBUG),
        (DetectionError(INTERNAL), logging.DEBUG),
        (ServerUnavailableError(INTERNAL), logging.DEBUG),
        (AnswerError(INTERNAL), logging.DEBUG),
        (UnsupportedFeatureError(INTERNAL), logging.WARNING),
        (EngineError(INTERNAL), logging.WARNING),
        (ClosedError(INTERNAL), logging.WARNING),
        (OSError(INTERNAL), logging.ERROR),
    ],
)
async def test_what_concerns_only_the_operator_is_logged_and_not_answered(
    error: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "qwen3_reranker")
    response = await failure(error)
    assert "internal" not in response.text.replace("internal error", "")
    assert "base_url" not in response.text
    request_id = response.headers["x-request-id"]
    records = [record for record in caplog.records if request_id in record.getMessage()]
    details = [record for record in records if INTERNAL in caplog.handler.format(record)]
    assert [record.levelno for record in details] == [level]
    # A server may repeat what it was sent, which must not be in an ordinary log.
    assert any(record.levelno >= logging.WARNING for record in records)


async def test_an_unexpected_error_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    response = await failure(ZeroDivisionError("a secret"))
    assert response.status_code == 500
    assert response.json()["message"].startswith("internal error (ZeroDivisionError) (request ID ")
    assert "a secret" in caplog.text


async def test_one_failing_query_of_several_is_an_ordinary_failure() -> None:
    pairs = {"text_1": ["a", "b"], "text_2": ["c", "d"]}
    response = await failure(EngineError("no"), "/v1/score", pairs)
    assert response.status_code == 500
    assert response.json()["error"]["message"].startswith("scoring failed (request ID ")


@pytest.mark.parametrize(
    ("error", "status", "word", "message"),
    [
        (ServerUnavailableError("no"), 503, "Overloaded", "documents cannot be scored at the mome"),
        (EngineError("no"), 500, "Backend", "scoring failed"),
        (InputError("no"), 422, "Validation", "no"),
    ],
)
async def test_tei_gets_its_own_words(
    error: Exception, status: int, word: str, message: str
) -> None:
    response = await failure(error, "/rerank", {"query": QUERY, "texts": DOCUMENTS})
    assert response.status_code == status
    body = response.json()
    assert body.pop("error").startswith(message)
    assert body == {"error_type": word}


@pytest.mark.parametrize("value", [float("nan"), 2.0, -1.0])
async def test_what_is_no_probability_is_never_returned(
    value: float, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(AnsweringScorer(value)) as client:
        response = await client.post("/rerank", json={"query": QUERY, "documents": ["a"]})
    assert response.status_code == 500
    assert "not a probability" in caplog.text


async def test_a_reranker_that_keeps_the_order_does_not_hide_a_failure() -> None:
    scorer = RelevanceScorer()
    scorer.error = EngineError("out of memory")
    reranker = Reranker(scorer=scorer, on_error="keep_order")
    async with client_of(create_app(reranker)) as client:
        with pytest.warns(RerankerWarning):
            response = await client.post("/rerank", json=BODY)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "out of memory" not in response.text


# Ready or not


class StartingScorer(RelevanceScorer):
    """Starts when told to, or fails to."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures = list(failures)

    async def start(self, *, on_stage: Callable[[str], None] | None = None) -> None:
        while not self.go_on.is_set():
            await asyncio.sleep(0.005)
        if self.failures:
            raise self.failures.pop(0)


@asynccontextmanager
async def asked(scorer: RelevanceScorer, **settings: Any) -> AsyncIterator[Any]:
    """Yield a function that returns what `/ready` says."""
    async with gateway(scorer, **settings) as client:

        async def ask() -> str:
            assert (await client.get("/health")).status_code == 200
            response = await client.get("/ready")
            assert (response.status_code == 200) == (response.json()["status"] == "ready")
            return str(response.json().get("reason", "ready"))

        async def until(wanted: str) -> None:
            async with asyncio.timeout(10):
                while await ask() != wanted:
                    await asyncio.sleep(0.005)

        ask.until = until  # type: ignore[attr-defined]
        ask.client = client  # type: ignore[attr-defined]
        yield ask


async def test_it_is_ready_when_the_engine_has_started() -> None:
    scorer = StartingScorer()
    scorer.go_on.clear()
    async with asked(scorer) as ask:
        assert await ask() == "starting"
        scorer.go_on.set()
        await ask.until("ready")
        assert scorer.calls == []


async def test_servers_that_are_not_up_yet_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readiness, "_PAUSES", (0.05,))
    down = ServerUnavailableError("no connection to http://internal")
    async with asked(StartingScorer(down, down, down)) as ask:
        await ask.until("the servers behind the gateway cannot score yet")
        await ask.until("ready")
    assert caplog.text.count("http://internal") == 1


async def test_a_model_that_cannot_be_used_is_reported_once() -> None:
    failures: list[RerankerError] = []
    error = CheckpointError("no reranker")
    async with asked(StartingScorer(error), on_failure=failures.append) as ask:
        await ask.until("the start failed")
        assert failures == [error]


PASSAGES = AliasConfig(long_documents={"long_documents": "passages"})
BUDGET = AliasConfig(selection={"token_budget": 100})
COUNTED = AliasConfig(selection={"token_budget": 100, "token_counter": len})


@pytest.mark.parametrize(
    "config",
    [
        GatewayConfig(default=PASSAGES),
        GatewayConfig(aliases={"books": PASSAGES}),
        GatewayConfig(default=BUDGET),
        GatewayConfig(aliases={"prompts": BUDGET}),
    ],
)
async def test_without_the_tokenizer_that_an_alias_needs_it_does_not_start(
    config: GatewayConfig,
) -> None:
    failed: asyncio.Future[RerankerError] = asyncio.get_running_loop().create_future()
    with ScriptedServer() as server:
        make = partial(Reranker, base_url=server.url)
        async with client_of(create_app(make, config, on_failure=failed.set_result)) as client:
            error = await asyncio.wait_for(failed, 10)
            assert (await client.get("/ready")).status_code == 503
    assert isinstance(error, InputError)
    assert "give tokenizer=" in str(error)


@pytest.mark.parametrize(("alias", "tokenizer"), [(PASSAGES, "demo"), (COUNTED, None)])
async def test_with_what_counts_tokens_it_starts(alias: AliasConfig, tokenizer: str | None) -> None:
    config = GatewayConfig(aliases={"books": alias})
    with ScriptedServer() as server:
        make = partial(Reranker, base_url=server.url, tokenizer=tokenizer)
        async with client_of(create_app(make, config)) as client:
            await until_ready(client)


async def test_an_unexpected_failure_of_the_start_is_reported_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[RerankerError] = []
    error = OSError("no space left")
    async with asked(StartingScorer(error), on_failure=failures.append) as ask:
        await ask.until("the start failed")
    [failure] = failures
    assert str(failure) == "the start failed unexpectedly (OSError: no space left)"
    assert "Traceback" in caplog.text


async def test_the_same_failure_after_a_success_is_logged_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readiness, "_FRESH", 0.0)
    scorer = StartingScorer()
    async with asked(scorer) as ask:
        await ask.until("ready")
        for error in (EngineError("it died"), None, OSError("it died"), OSError("it died")):
            scorer.error = error
            assert await ask() == ("scoring fails" if error else "ready")
        scorer.error = None
        assert await ask() == "ready"
        scorer.error = EngineError("it died")
        assert await ask() == "scoring fails"
    logged = [message for message in caplog.messages if message.startswith("cannot score: ")]
    assert logged == [f"cannot score: {it}" for it in ("it died", "OSError('it died')", "it died")]


async def test_a_failure_is_noticed_and_so_is_its_end() -> None:
    scorer = StartingScorer()
    async with asked(scorer) as ask:
        await ask.until("ready")
        scorer.error = ServerUnavailableError("no connection to http://internal")
        assert await ask() == "ready"  # nobody has noticed yet
        assert (await ask.client.post("/rerank", json=BODY)).status_code == 503
        assert await ask() == "scoring fails"
        scorer.error = None
        assert await ask() == "ready"


async def test_refused_requests_do_not_make_it_unready() -> None:
    scorer = StartingScorer()
    async with asked(scorer) as ask:
        await ask.until("ready")
        scorer.error = EngineError("not called")
        for wrong in ({}, BODY | {"query": " "}, BODY | {"top_n": "x"}):
            assert (await ask.client.post("/rerank", json=wrong)).status_code == 422
        blank = BODY | {"documents": [" "]}
        assert (await ask.client.post("/rerank", json=blank)).status_code == 200
        assert await ask() == "ready"


async def test_an_idle_gateway_scores_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_FRESH", 0.0)
    scorer = StartingScorer()
    async with asked(scorer) as ask:
        await ask.until("ready")
        before = len(scorer.calls)
        assert before >= 1
        await asyncio.gather(*(ask.client.get("/ready") for _ in range(5)))
        assert len(scorer.calls) == before + 1  # all waited for the same one
        scorer.error = EngineError("it died")
        assert await ask() == "scoring fails"


async def test_a_gateway_that_is_too_slow_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_FRESH", 0.0)
    monkeypatch.setattr(readiness, "_PATIENCE", 0.05)
    scorer = StartingScorer()
    async with asked(scorer) as ask:
        await ask.until("ready")
        scorer.go_on.clear()
        before = len(scorer.calls)
        for _ in range(2):
            assert await ask() == "scoring takes more than 0.05 seconds"
        # The attempt goes on, because it may reach another server, and there is only one.
        assert (len(scorer.calls), scorer.cancelled) == (before + 1, [])
        scorer.go_on.set()
        await ask.until("ready")


class HeldProbe(StartingScorer):
    """Scores requests while the document that is scored for `/ready` waits."""

    def __init__(self) -> None:
        super().__init__()
        self.probes = 0
        self.probing, self.let_go, self.ended = (threading.Event() for _ in range(3))
        self.probe_error: Exception | None = None

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if query != "ready?":
            return await super().score(query, texts, instruction)
        self.probes += 1
        self.probing.set()
        await asyncio.to_thread(self.let_go.wait, 10)
        try:
            if self.probe_error is not None:
                raise self.probe_error
            return await super().score(query, texts, instruction)
        finally:
            self.ended.set()


async def test_a_request_that_was_scored_says_more_than_a_probe_that_began_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = HeldProbe()
    scorer.probe_error = EngineError("it failed while another request was scored")
    async with asked(scorer) as ask:
        await ask.until("ready")
        monkeypatch.setattr(readiness, "_FRESH", 0.0)
        asking = asyncio.create_task(ask())
        await asyncio.to_thread(scorer.probing.wait, 10)
        assert (await ask.client.post("/rerank", json=BODY)).status_code == 200
        scorer.let_go.set()
        assert await asking == "ready"


async def test_a_probe_that_succeeds_late_shows_that_scoring_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "_PATIENCE", 0.05)
    scorer = HeldProbe()
    async with asked(scorer) as ask:
        await ask.until("ready")
        monkeypatch.setattr(readiness, "_FRESH", 0.0)
        assert await ask() == "scoring takes more than 0.05 seconds"
        monkeypatch.setattr(readiness, "_FRESH", 30.0)
        scorer.let_go.set()
        await asyncio.to_thread(scorer.ended.wait, 10)
        scorer.let_go.clear()  # another probe would be too slow as well
        await ask.until("ready")
        assert scorer.probes == 1
        scorer.let_go.set()


async def test_a_request_that_is_scored_before_a_probe_begins_makes_it_needless() -> None:
    scorer = RelevanceScorer()
    with Reranker(scorer=scorer) as reranker:
        ready = readiness.Readiness(Backend(reranker, GatewayConfig()))
        ready.begin()
        async with asyncio.timeout(10):
            while await ready.obstacle() == "starting":
                await asyncio.sleep(0.005)
        ready.note(scored=False)
        probe = ready.check()
        assert probe is not None
        ready.note(scored=True)
        assert await probe is None
        await ready.end()
    assert scorer.calls == []


async def test_a_cached_score_does_not_show_that_scoring_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Cacheable(RelevanceScorer):
        async def fingerprint(self) -> str:
            return "1"

    monkeypatch.setattr(readiness, "_FRESH", 0.0)
    scorer = Cacheable()
    with Reranker(scorer=scorer, cache={}) as reranker:
        async with client_of(create_app(reranker)) as client:
            await until_ready(client)
            scorer.error = ServerUnavailableError("it hangs")
            assert (await client.get("/ready")).json()["reason"] == "scoring fails"


async def test_an_application_that_is_mounted_in_another_one_works() -> None:
    """Its lifespan is not run, so it starts when it is asked."""
    outer = FastAPI()
    gateway = create_app(Reranker(scorer=RelevanceScorer()), GatewayConfig(keys=("k",)))
    outer.mount("/reranker", gateway)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://outer/reranker") as client:
        await until_ready(client)
        refused = await client.post("/v2/rerank", json=BODY)
        assert (refused.status_code, list(refused.json())) == (401, ["message"])
        key = {"Authorization": "Bearer k"}
        assert (await client.post("/rerank", json=BODY, headers=key)).status_code == 200
        wrong = await client.post("/v2/rerank", json={}, headers=key)
        assert (wrong.status_code, list(wrong.json())) == (422, ["message"])
        unknown = await client.get("/nothing", headers=key)
        assert "there is no '/nothing' here" in unknown.json()["error"]["message"]
        assert (await client.get("/docs")).status_code == 200
