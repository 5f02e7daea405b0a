"""The remote scorer: any server behind a URL, in the dialect that it speaks."""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, Unpack

from qwen3_reranker import event_loop
from qwen3_reranker.dialects import Dialect, find
from qwen3_reranker.errors import (
    ClosedError,
    ForkError,
    InputError,
    RerankerWarning,
    UnsupportedFeatureError,
)
from qwen3_reranker.model.prompt import Prompt, TextWriter, check_unicode
from qwen3_reranker.redaction import conceal
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection import Route
from qwen3_reranker.remote.endpoint import Endpoint, Settings, split
from qwen3_reranker.remote.failover import Budget, attempt
from qwen3_reranker.remote.options import ServerOptions, resolve_options
from qwen3_reranker.remote.request_encoder import load_tokenizer
from qwen3_reranker.remote.transport import TooLargeError, Transport
from qwen3_reranker.scorer import Scorer, Scores, digest, joined

__all__ = ["RemoteScorer"]

T = TypeVar("T")


class RemoteScorer(Scorer):
    """
    Scores with one server or with several that serve the same model.

    Of several the least busy gets a request; one that fails rests, longer every time, and its
    work moves on to the others.

    Args:
        base_url: The root, `/v1` or an endpoint's full path; or a list of such.
        model: The name that the servers know the model by; None takes what they list.
        max_length: The most tokens of a prompt; None takes 8192 or the server's lower limit.
        **server: The options for servers, see `ServerOptions`.

    Raises:
        InputError: An argument cannot be used.
        TypeError: An argument has an unknown name.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        *,
        model: str | None = None,
        max_length: int | None = None,
        **server: Unpack[ServerOptions],
    ) -> None:
        # First of all, so that no traceback of what follows shows a key.
        options = resolve_options(conceal(server))
        del server
        if not isinstance(base_url, (str, Sequence)):
            raise InputError(f"base_url={base_url!r}: give a URL, or a list of URLs")
        urls = [base_url] if isinstance(base_url, str) else list(base_url)
        if not urls:
            raise InputError(f"base_url={base_url!r}: give at least one URL")
        self._addresses = [Address.parse(url) for url in dict.fromkeys(urls)]
        self._settings = Settings(
            model,
            max_length,
            _dialect(options["dialect"]),
            options["template"],
            None if options["tokenizer"] is None else load_tokenizer(options["tokenizer"]),
            options["api_key"],
            options["timeout"],
        )
        self._options = options
        self._warned: set[str] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._open()

    @property
    def model(self) -> str:  # type: ignore[override]
        """The model's name: as given, as the server lists it, or the URL while that is unknown."""
        route = self._known()
        return self._settings.model or (route and route.model) or self._endpoints[0].address.url

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self._check()
        return await self._run(self._score(query, texts, instruction))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """
        Return the prompt that the model reads, whoever writes it.

        Asks the server what it is, at the first call. Without a tokenizer `.ids` is empty.
        """
        encoder = event_loop.run(self._resolved()).encoder
        if encoder.builder is not None:
            return encoder.builder.prompt(query, document, instruction)
        text = TextWriter()
        return Prompt(
            text.head(query, instruction) + text.tail(text.escape_control_tokens(document)),
            [],
            truncated=False,
        )

    async def describe(self) -> str:
        """Describe each server in a line: the result of its detection, or that it has none yet."""
        await self._resolved()
        lines = []
        for endpoint in self._endpoints:
            unknown = "not asked yet" if endpoint.route is None else "not asked again yet"
            lines.append(f"{endpoint.address.url}: {endpoint.known or unknown}")
        return "\n".join(lines)

    async def fingerprint(self) -> str | None:
        """
        Identify the servers, the model's name there, and everything that is sent to them.

        None, with a warning, if the servers that are known differ: any of them may score a text.

        Headers and the API key count, because a gateway may route by them; so do the headers,
        query parameters and cookies of an `http_client`, but not its transport. The weights behind
        a server's name are not known.
        """
        await self._resolved()
        routes = {e.route.fingerprint for e in self._endpoints if e.route}
        if len(routes) > 1:
            self._warn(
                "the servers differ, for example in max_length (see describe()), so they may score "
                "a text differently: cache= is not used"
            )
            return None
        urls = [address.url for address in self._addresses]
        headers = sorted(
            (name.lower(), value) for name, value in (self._options["headers"] or {}).items()
        )
        sent: list[Any] = [urls, self._settings.api_key, headers, self._options["proxy"]]
        if (client := self._options["http_client"]) is not None:
            cookies = sorted((cookie.name, cookie.value) for cookie in client.cookies.jar)
            sent += [client.headers.multi_items(), str(client.params), cookies]
        return digest(["remote", *sent, *routes])

    async def start(self, *, on_stage: Callable[[str], None] | None = None) -> None:  # noqa: ARG002
        await self._resolved()

    async def aclose(self) -> None:
        self._closed = True
        if self._process != os.getpid():
            self._leave_to_parent()
            return
        for task in list(self._running):
            task.cancel()
        if self._finalizer.detach() is not None:
            await self._transport.aclose()

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` in a task of its own, which `aclose` can stop."""
        task = asyncio.create_task(work)
        self._running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            # A caller that was interrupted is cancelled first and then closes: it has left, and
            # nobody would retrieve an error.
            if self._closed and caller is not None and not caller.cancelling():
                raise ClosedError("the reranker was closed while the call was waiting") from None
            raise
        finally:
            self._running.discard(task)

    def _open(self) -> None:
        """Make what belongs to this process: the connections, and what is known of the servers."""
        self._process = os.getpid()
        self._transport = Transport(
            headers=self._options["headers"],
            verify=self._options["verify"],
            proxy=self._options["proxy"],
            max_connections=self._options["max_concurrency"],
            client=self._options["http_client"],
        )
        self._slots = asyncio.Semaphore(self._options["max_concurrency"])
        self._endpoints = [
            Endpoint(address, self._settings, self._transport) for address in self._addresses
        ]
        # For a reranker that nobody closed.
        self._finalizer = weakref.finalize(self, _close, self._transport, self._process)
        self._finalizer.atexit = False

    def _check(self) -> None:
        """Raise if closed; in a forked child, start afresh without the parent's connections."""
        if self._closed:
            raise ClosedError("the reranker is closed: make a new one")
        if self._process == os.getpid():
            return
        if self._options["http_client"] is not None:
            raise ForkError(
                "this reranker's http_client belongs to the process that was forked: make a new "
                "reranker in the child"
            )
        self._leave_to_parent()
        self._open()

    def _leave_to_parent(self) -> None:
        """
        In a forked child, forget the parent's connections and tasks without touching them.

        The child shares the parent's sockets and its selector. Closing a connection, or
        cancelling a task that waits for one, would shut down what the parent is using.
        """
        self._finalizer.detach()
        self._running.clear()

    async def _resolved(self) -> Route:
        self._check()
        return await self._run(self._resolve(self._budget()))

    def _budget(self) -> Budget:
        return Budget(self._settings.timeout, len(self._endpoints))

    async def _resolve(self, budget: Budget) -> Route:
        known = self._known()
        return await self._retrying(Endpoint.resolve, budget) if known is None else known

    def _known(self) -> Route | None:
        """Return how to ask one of the servers, or None if none is detected yet."""
        return next((known for e in self._endpoints if (known := e.known)), None)

    async def _score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        check_unicode("query", query)
        check_unicode("instruction", instruction or "")
        budget = self._budget()
        route = await self._resolve(budget)
        runs = split(query, texts, route.dialect.limits)
        parts = [texts[r.start : r.stop] for r in runs]
        return joined(
            await event_loop.gather(
                [
                    asyncio.create_task(self._part(query, part, instruction, budget.copy()))
                    for part in parts
                ]
            )
        )

    async def _part(
        self, query: str, texts: Sequence[str], instruction: str | None, budget: Budget
    ) -> Scores:
        """
        Score what should fit into one request, and halve it where the server says it does not.

        The halves follow one another in the slot of the whole, within its time: a server that
        refuses whatever it is sent gets few requests, and they end in time.
        """
        pending, scores = [texts], []
        async with self._slots:
            while pending:
                part = pending.pop()

                async def score(endpoint: Endpoint, part: Sequence[str] = part) -> Scores:
                    route = await self._check_supported(endpoint, part, instruction)
                    found = await endpoint.score(query, part, instruction)
                    if endpoint.route is not route:  # the server has changed meanwhile
                        await self._check_supported(endpoint, part, instruction)
                    return found

                try:
                    scores.append(await self._retrying(score, budget))
                except TooLargeError as error:
                    if len(part) == 1:
                        raise
                    budget.halve(error)
                    middle = len(part) // 2
                    pending += [part[middle:], part[:middle]]
        return joined(scores)

    async def _retrying(self, work: Callable[[Endpoint], Awaitable[T]], budget: Budget) -> T:
        return await attempt(
            work, self._endpoints, retries=self._options["max_retries"], budget=budget
        )

    async def _check_supported(
        self, endpoint: Endpoint, texts: Sequence[str], instruction: str | None
    ) -> Route:
        """
        Warn of what this server, of several perhaps, cannot do of all that is asked for.

        Returns the route that was looked at.
        """
        route = await endpoint.resolve()
        url = endpoint.address.url
        for warning in route.warnings:
            self._warn(f"{url}: {warning}")
        if instruction is not None and not await endpoint.honors_instruction():
            self._unsupported(
                f"an instruction was given, but {route.dialect.name} at {url} does not read one: "
                "its template's own is used"
            )
        if route.encoder.can_cut:
            return route
        if self._settings.max_length:
            self._unsupported(
                f"max_length was given, but there is no tokenizer to count with for {url}: give "
                "tokenizer="
            )
        # No token is shorter than a byte.
        limit = route.encoder.max_length
        if route.dialect.cuts_silently and any(len(text.encode()) > limit for text in texts):
            self._unsupported(
                f"a document may be longer than the {limit} tokens that {url} takes, and "
                f"{route.dialect.name} cuts a prompt without saying so, which makes its score "
                "meaningless. There is no tokenizer to cut the document with: give tokenizer="
            )
        return route

    def _unsupported(self, message: str) -> None:
        if self._options["on_unsupported"] == "raise":
            raise UnsupportedFeatureError(f'{message} (on_unsupported="raise")')
        self._warn(message)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, RerankerWarning, stacklevel=2)


def _dialect(dialect: str | Dialect) -> Dialect | None:
    """Return the dialect that was chosen by name or as an object; None for "auto"."""
    if isinstance(dialect, Dialect):
        return dialect
    if not isinstance(dialect, str):
        raise InputError(f"dialect={dialect!r}: give a name, or an object of a Dialect")
    return None if dialect == "auto" else find(dialect)


def _close(transport: Transport, process: int) -> None:
    if process == os.getpid():  # a forked child leaves the connections to its parent
        event_loop.submit(transport.aclose())
