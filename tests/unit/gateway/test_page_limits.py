"""The limits of a gateway for the runs of its page."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from qwen3_reranker.errors import InputError, RerankerError
from qwen3_reranker.gateway import Limits
from qwen3_reranker.gateway.limits import Admission
from qwen3_reranker.gateway.page_limits import GatewayPageLimits, LimitBodies
from qwen3_reranker.playground.events import run
from qwen3_reranker.playground.models import Models, PageModel

from support.playground import DOCUMENTS, INPUTS, QUERY, PageScorer, rerankers


def page_limits(**limits: float) -> tuple[GatewayPageLimits, Admission]:
    chosen = Limits(**limits)  # type: ignore[arg-type]
    admission = Admission(chosen)
    return GatewayPageLimits(chosen, admission), admission


def models_with(limits: GatewayPageLimits, scorer: PageScorer) -> Models:
    cut, passages = rerankers(scorer)
    return Models([PageModel("m", None, {"cut": cut, "passages": passages})], limits=limits)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_documents": 2}, "has 3 documents, and at most 2 are accepted"),
        ({"max_characters": 20}, "characters, and at most 20 are accepted"),
    ],
)
async def test_a_run_that_is_too_large_is_refused(limits: dict[str, int], words: str) -> None:
    scorer = PageScorer()
    models = models_with(page_limits(**limits)[0], scorer)
    *_, last = [update async for update in run(INPUTS, models, has_result=False)]
    assert last.result is None
    assert words in last.message
    assert not scorer.calls


def test_the_characters_of_everything_count() -> None:
    number = len(QUERY) + len("".join(DOCUMENTS)) + len("instruction")
    page_limits(max_characters=number)[0].check(QUERY, DOCUMENTS, "instruction")
    with pytest.raises(InputError, match=f"has {number} characters"):
        page_limits(max_characters=number - 1)[0].check(QUERY, DOCUMENTS, "instruction")


async def test_a_run_waits_for_its_turn_among_the_requests() -> None:
    limits, admission = page_limits(max_active=1)
    scorer = PageScorer()
    async with admission.turn():
        updates = run(INPUTS, models_with(limits, scorer), has_result=False, tick=0.01)
        while not admission.present:
            await anext(updates)
        assert not scorer.calls
    *_, last = [update async for update in updates]
    assert last.result is not None
    assert (admission.present, admission.active) == (0, 0)


async def test_a_run_is_refused_while_too_many_requests_wait() -> None:
    limits, admission = page_limits(max_active=1, max_queue=0)
    models = models_with(limits, PageScorer())
    with admission.accepted():
        *_, last = [update async for update in run(INPUTS, models, has_result=False)]
    assert last.result is None
    assert "1 requests are being processed already: try again later" in last.message


async def test_a_run_must_be_scored_in_time_and_not_longer() -> None:
    limits, admission = page_limits(max_active=1, request_timeout=0.01)
    async with admission.turn():
        with pytest.raises(RerankerError, match=r"could not be scored within 0.01 seconds"):
            async with limits.turn():
                pytest.fail("there is no turn yet")
    with pytest.raises(RerankerError, match=r"within 0.01 seconds"):
        async with limits.turn():
            await asyncio.Event().wait()
    assert (admission.present, admission.active) == (0, 0)


async def test_errors_of_the_page_are_left_alone() -> None:
    limits, _ = page_limits()
    for error in (InputError("mine"), RuntimeError("mine")):
        with pytest.raises(type(error), match="mine"):
            async with limits.turn():
                raise error


async def test_bodies_of_the_page_are_limited() -> None:
    async def length(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    page = Starlette(routes=[Route("/{path:path}", length, methods=["GET", "POST"])])
    app = Starlette(
        routes=[Mount("/page", page), Route("/other", length, methods=["POST"])],
        middleware=[Middleware(LimitBodies, path="/page", limit=10)],
    )

    async def chunks() -> object:
        yield b"x"

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.get("/page/")).text == "0"
        assert (await client.post("/page/upload", content=b"x" * 10)).text == "10"
        assert (await client.post("/other", content=b"x" * 11)).text == "11"
        refused = await client.post("/page/upload", content=b"x" * 11)
        assert (refused.status_code, refused.json()["error"]["message"]) == (
            413,
            "the body is larger than 10 bytes",
        )
        assert (await client.post("/page/upload", content=chunks())).status_code == 411  # type: ignore[arg-type]
