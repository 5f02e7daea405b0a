"""
A server on loopback, in the test process, that gives right or wrong answers, slow ones or none.

Its right answers are those of vLLM 0.32 (`/version`, `/v1/models`, `/classify`, `/v1/rerank`), with
scores that `relevance` computes from the request. They differ for every pair, so that a lost or
swapped document is noticed.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any, Self, TypeVar

from tokenizers import Tokenizer

from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION

MODEL = "scripted-reranker"
T = TypeVar("T")


def relevance(query: str, document: str, instruction: str | None = None) -> float:
    """Return the share of the query's words that the document has, with a bit of noise."""
    wanted, there = ({*re.findall(r"\w{4,}", text.lower())} for text in (query, document))
    noise = (
        zlib.crc32(f"{instruction or DEFAULT_INSTRUCTION}\0{query}\0{document}".encode()) / 2**32
    )
    return 0.02 + 0.92 * len(wanted & there) / max(1, len(wanted)) + 0.05 * noise


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """An answer, and how it is sent."""

    body: Any = b""  # bytes as they are, an iterator of bytes as chunks, all else as JSON
    status: int | None = 200  # None: the body alone, with no HTTP around it
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0  # seconds before the first byte
    hold: threading.Event | None = None  # set before the first byte
    drip: float = 0.0  # seconds between the bytes of the body
    reset_after: int | None = None  # after so many bytes of the body the connection is reset


Handler = Callable[[Request], Reply]
Paths = Mapping[tuple[str, str], Handler]
HANG = Reply(wait=600)


def but(**changes: Any) -> Handler:
    """Return a handler that gives the right answer, with some fields of the reply replaced."""
    return lambda request: replace(classify(request), **changes)


def scored(request: Request) -> list[float]:
    """Return the right scores for a request to any of the endpoints."""
    body = request.body
    if "input" in body:
        return [relevance(*_parse_prompt(prompt)) for prompt in body["input"]]
    query, documents = body["query"], body["documents"]
    if "<Query>: " in query:
        return [relevance(*_parse_prompt(query + document)) for document in documents]
    return [relevance(query, document, body.get("instruction")) for document in documents]


def classify(request: Request) -> Reply:
    data = [
        {"index": place, "label": "LABEL_0", "probs": [score], "num_classes": 1}
        for place, score in enumerate(scored(request))
    ]
    return Reply({"id": "classify-90a4", "object": "list", "model": MODEL, "data": data})


def rerank(request: Request) -> Reply:
    documents = enumerate(zip(request.body["documents"], scored(request), strict=True))
    results: list[dict[str, Any]] = [
        {"index": place, "document": {"text": text, "multi_modal": None}, "relevance_score": score}
        for place, (text, score) in documents
    ]
    results.sort(key=lambda result: -result["relevance_score"])
    return Reply({"id": "score-ab82", "model": MODEL, "results": results})


_MODEL = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": MODEL, "max_model_len": 2048}
VLLM: Paths = {
    ("GET", "/v1/models"): lambda _: Reply({"object": "list", "data": [_MODEL]}),
    ("GET", "/version"): lambda _: Reply({"version": "0.32.0"}),
    ("POST", "/classify"): classify,
    ("POST", "/v1/rerank"): rerank,
}
_NOT_FOUND = Reply({"detail": "Not Found"}, 404)


class ScriptedServer:
    """One listener. It answers 404 to a request that its script has no answer for."""

    def __init__(self, script: Paths = VLLM) -> None:
        self.script = dict(script)
        self.requests: list[Request] = []
        self.dropped: list[Request] = []  # whose client went away before the answer
        self.port = self.connections = 0  # connections that were ever made
        self.most = 0  # of them at once
        self._first: defaultdict[str, deque[Reply | Handler]] = defaultdict(deque)
        self._open: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}

    def __enter__(self) -> Self:
        self._server = _on_loop(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        _on_loop(self._stop())

    async def _stop(self) -> None:
        self._server.close()
        for task in filter(None, self._open.values()):
            task.cancel()
        await asyncio.gather(*filter(None, self._open.values()), return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def first(self, *replies: Reply | Handler, path: str = "/classify") -> None:
        """Give these answers to the next requests, one each, and then those of the script."""
        self._first[path].extend(replies)

    def always(self, reply: Reply | Handler, path: str = "/classify") -> None:
        """Give this answer from now on."""
        self.script["POST", path] = reply if callable(reply) else lambda _: reply

    def asked(self, path: str = "/classify") -> list[Request]:
        return [request for request in self.requests if request.path == path]

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def hang_up(self) -> None:
        """Close the connections that are open now."""
        for writer in list(self._open):
            _loop().call_soon_threadsafe(writer.close)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = asyncio.current_task()
        self.connections += 1
        self.most = max(self.most, len(self._open))
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                await self._answer(request, self._reply(request), reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            del self._open[writer]
            writer.close()

    def _reply(self, request: Request) -> Reply:
        first = self._first[request.path]
        found = first.popleft() if first else self.script.get((request.method, request.path))
        return found(request) if callable(found) else found or _NOT_FOUND

    async def _answer(
        self,
        request: Request,
        reply: Reply,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if reply.wait:
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), reply.wait)
                self.dropped.append(request)
                raise ConnectionError
        if reply.hold is not None:
            await asyncio.to_thread(reply.hold.wait, 30)
        pieces, headers = reply.body, dict(reply.headers)
        if isinstance(pieces, Iterator):
            headers["Transfer-Encoding"] = "chunked"
            pieces = (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in chain(pieces, [b""]))
        else:
            whole = pieces if isinstance(pieces, bytes) else json.dumps(pieces).encode()
            headers["Content-Length"] = str(len(whole))
            whole = whole[: reply.reset_after]
            pieces = [whole[i : i + 1] for i in range(len(whole))] if reply.drip else [whole]
        if reply.status is not None:
            lines = [f"HTTP/1.1 {reply.status} Reason", "Content-Type: application/json"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(reply.drip)
        if reply.reset_after is not None:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if reply.status is None or reply.reset_after is not None:
            raise ConnectionError


Pair = tuple[ScriptedServer, ScriptedServer]


async def _read(reader: asyncio.StreamReader) -> Request:
    head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = head.split(" ")
    return Request(method, path, headers, json.loads(body) if body else None)


def _parse_prompt(prompt: str | list[int]) -> tuple[str, str, str]:
    """Return query, document and instruction of a prompt; fail if it is not the model card's."""
    text = prompt if isinstance(prompt, str) else demo_tokenizer().decode(prompt, False)
    found = re.fullmatch(
        r"<\|im_start\|>system\nJudge .*<Instruct>: (.*?)\n<Query>: (.*?)\n<Document>: (.*)"
        r"<\|im_end\|>\n<\|im_start\|>assistant\n<think>\n\n</think>\n\n",
        text,
        re.DOTALL,
    )
    assert found, text
    return found[2], found[3], found[1]


@cache
def demo_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="scripted servers", daemon=True).start()
    return loop


def _on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result(30)


QUERY = "Where does the river begin?"
DOCUMENTS = [f"The river number {i} begins in the hills." for i in range(7)]
RIGHT = [relevance(QUERY, document) for document in DOCUMENTS]
