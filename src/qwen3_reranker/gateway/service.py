"""The trip of a request through a gateway: read, parse, wait, score, answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Literal, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from qwen3_reranker.errors import ServerError
from qwen3_reranker.gateway import errors
from qwen3_reranker.gateway.api import tei
from qwen3_reranker.gateway.api.api import Api
from qwen3_reranker.gateway.api.job import Job
from qwen3_reranker.gateway.backend import Backend
from qwen3_reranker.gateway.endpoints import Endpoint
from qwen3_reranker.gateway.errors import GatewayError, gateway_error
from qwen3_reranker.gateway.limits import Admission, Limits, read_body
from qwen3_reranker.gateway.paths import error_body, route_path
from qwen3_reranker.gateway.readiness import Readiness
from qwen3_reranker.gateway.records import RequestRecord, record_of
from qwen3_reranker.ranking import Ranking
from qwen3_reranker.usage import Usage

__all__ = ["Service", "respond"]

T = TypeVar("T")

# How a server refuses a request that it cannot use. It may score others.
_REFUSED = frozenset({400, 413, 422})


def respond(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


class Service:
    """
    Answer the requests of the APIs that score.

    Args:
        backend: What scores.
        limits: What requests may contain, and how many are accepted at a time.
        readiness: What is told whether requests can be scored.

    Attributes:
        admission: The requests that are being processed.
    """

    def __init__(self, backend: Backend, limits: Limits, readiness: Readiness) -> None:
        self._backend = backend
        self._limits = limits
        self._readiness = readiness
        self.admission = Admission(limits)

    def handler(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Return the function that answers the requests to an endpoint."""

        async def answer(request: Request) -> Response:
            record_of(request.scope).api = endpoint.apis[0].name
            return await self._answer(request, endpoint)

        return answer

    async def _answer(self, request: Request, endpoint: Endpoint) -> Response:
        record = record_of(request.scope)
        write_error = error_body(route_path(request.scope))
        stage = "received"
        try:
            with self.admission.accepted():
                async with asyncio.timeout(self._limits.request_timeout):
                    data = _parse_json(await read_body(request, self._limits.max_body))
                    api = endpoint.api_of(data)
                    record.api = api.name
                    if api is tei.API:
                        write_error = errors.tei
                    job = self._job(api, data)
                    stage = "answered"
                    rankings, name = await self._ranked(request, job, record)
                    return respond(job.render(rankings, name))
        except ClientDisconnect:
            return Response(status_code=499)
        except TimeoutError:
            seconds = self._limits.request_timeout
            message = f"the request could not be {stage} within {seconds:g} seconds"
            late = stage == "received"
            # Otherwise the connection stays open as long as the client goes on sending the body.
            headers = {"Connection": "close"} if late else None
            failure = GatewayError(408 if late else 504, message, headers=headers)
        except Exception as error:  # noqa: BLE001  # every request gets an answer
            failure = gateway_error(error, record.request_id)
            refused = isinstance(error, ServerError) and error.status in _REFUSED
            if stage == "answered" and failure.status >= 500 and not refused:
                self._readiness.note(scored=False)
        return respond(write_error(failure), failure.status, failure.headers)

    def _job(self, api: Api, data: dict[str, Any]) -> Job:
        """
        Return what a body asks for.

        Its documents are counted before they are validated one by one, because a body has room for
        millions. No field is a list of anything but texts.
        """
        for name in api.body.model_fields:
            if isinstance(texts := data.get(name), list):
                self._limits.check_count(len(texts))
        return api.parse(data)

    async def _ranked(
        self, request: Request, job: Job, record: RequestRecord
    ) -> tuple[Sequence[Ranking], str]:
        """Return the ranking of each query of a job, and the name of the model that scored it."""
        record.documents = job.document_count
        self._limits.check(job)
        await self._backend.identify()
        alias = self._backend.alias(job.model)
        name = record.alias = alias.name or self._backend.model

        async def rank() -> list[Ranking]:
            async with AsyncExitStack() as turn:
                with _measured(record, "queue_seconds"):
                    await turn.enter_async_context(self.admission.turn())
                with _measured(record, "scoring_seconds"):
                    return await alias.rank(job)

        rankings = await _unless_disconnected(request, rank())
        record.usage = sum((ranking.usage for ranking in rankings), Usage())
        if record.usage.scored:
            self._readiness.note(scored=True)
        return rankings, name


@contextmanager
def _measured(
    record: RequestRecord, name: Literal["queue_seconds", "scoring_seconds"]
) -> Iterator[None]:
    """Record the seconds that a block took, also if it failed or was canceled."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        setattr(record, name, time.perf_counter() - begun)


def _parse_json(body: bytes) -> dict[str, Any]:
    """
    Return the JSON object in a body.

    Lone surrogates, which JavaScript writes where it cuts a text within a character, are replaced.

    Raises:
        GatewayError: The body is not a JSON object.
    """
    if not body.strip():
        raise GatewayError(400, "the body is empty: send a JSON object")
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            whole = json.dumps(json.loads(body), ensure_ascii=False)
            data = orjson.loads(whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        except UnicodeDecodeError:
            raise GatewayError(400, "the body is not UTF-8 text: send JSON in UTF-8") from None
        except (ValueError, RecursionError):
            raise GatewayError(400, f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise GatewayError(400, "the body must be a JSON object")
    return data


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """
    Return the result of a coroutine, which is canceled if the client goes away before.

    Raises:
        ClientDisconnect: The client went away.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client has gone away. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
