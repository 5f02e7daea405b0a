"""Score with remote servers."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Unpack

from qwen3_reranker import event_loop
from qwen3_reranker.errors import ClosedError, ForkError, InputError
from qwen3_reranker.model.prompt import Prompt, PromptBuilder
from qwen3_reranker.model.template import TextWriter, check_unicode
from qwen3_reranker.options import document_options, resolve_options
from qwen3_reranker.redaction import conceal
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.batching import Parts, split
from qwen3_reranker.remote.detection import Route
from qwen3_reranker.remote.detection.candidates import resolve_dialect
from qwen3_reranker.remote.endpoint import Endpoint, Settings
from qwen3_reranker.remote.failover import Attempts, Budget
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
from qwen3_reranker.remote.responses import TooLargeError
from qwen3_reranker.remote.support import SupportReporter
from qwen3_reranker.remote.tokenizers import load_tokenizer
from qwen3_reranker.remote.transport import Transport
from qwen3_reranker.scorer import Scorer, Scores, digest, joined
from qwen3_reranker.usage import EndpointStats, Stopwatch, Usage

__all__ = ["RemoteScorer"]

_logger = logging.getLogger(__name__)


@document_options(ConnectionOptions, ServerOptions)
class RemoteScorer(Scorer):
    """
    Score with one server, or with several servers of the same model.

    Each request is sent to the least busy server. After a failure, a server backs off, for longer
    with every failure in a row, and requests are sent to the others.

    Args:
        base_url: The base URL of a server (its root, its `/v1`, or the full URL of an endpoint), or
            a list of them.
        model: The model's name on the servers. None uses the one that they list.
        max_length: The maximum number of tokens in a prompt, including the template. None uses
            8192, or the server's limit if that is lower.
        **server: The options for servers, see `ServerOptions`.

    Attributes:
        endpoints: The servers, in the order of `base_url`.

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
        options = resolve_options(conceal(server), ServerOptions)
        del server
        self._addresses = Address.parse_all(base_url)
        self.max_length = max_length
        self._reporter = SupportReporter(
            options["on_unsupported"], max_length_given=max_length is not None
        )
        self._settings = Settings(
            model,
            max_length,
            resolve_dialect(options["dialect"]),
            options["template"],
            None if options["tokenizer"] is None else load_tokenizer(options["tokenizer"]),
            options["api_key"],
            options["timeout"],
            self._reporter,
        )
        self._options = options
        self._calls: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._open()

    @property
    def model(self) -> str:  # type: ignore[override]
        """The model's name: as given, as a server last listed it, or the URL if it is unknown."""
        listed = (e.route.model for e in self.endpoints if e.route and e.route.model)
        return self._settings.model or next(listed, self.endpoints[0].address.url)

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of each text, and whether its end was cut off.

        The texts are split into requests that respect the server's limits, and these are sent
        concurrently.

        Args:
            query: The query.
            texts: The texts, at least one, none of them blank.
            instruction: The instruction; None stands for the default.

        Returns:
            One probability and one flag per text, in input order.

        Raises:
            InputError: A text is not Unicode text, or a setting does not fit the server.
            PromptTooLongError: The instruction and the query leave no room for a document.
            ServerError: The servers failed, refused the request, or could not be detected.
            AnswerError: A response does not contain one probability per document.
            UnsupportedFeatureError: The server cannot fully serve the request, and
                `on_unsupported` is "raise".
            ClosedError: The reranker was closed.
        """
        async with self._call():
            check_unicode("query", query)
            check_unicode("instruction", instruction or "")
            return await self._score_texts(query, texts, instruction, self._budget())

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """
        Return the prompt that the model reads, whether the client or the server writes it.

        The first call detects the server.

        Args:
            query: The query.
            document: The document.
            instruction: The instruction; None stands for the default.

        Returns:
            The prompt. Without a tokenizer on this machine, `ids` is empty.
        """
        encoder = event_loop.run(self._detected()).encoder
        if encoder.builder is not None:
            return encoder.builder.prompt(query, document, instruction)
        text = TextWriter()
        return Prompt(
            text.head(query, instruction) + text.tail(text.escape_control_tokens(document)),
            [],
            truncated=False,
        )

    async def prompt_builder(self) -> PromptBuilder:
        """
        Return what writes the prompts for the server that is used now, which is detected first.

        Raises:
            InputError: The tokenizer of the server's model is not on this machine.
            ServerError: The server cannot be reached or detected.
        """
        route = await self._detected()
        builder = await asyncio.to_thread(route.encoder.builder_for, route.template_by)
        if builder is None:
            raise InputError(
                "passages and token budgets are counted in tokens, and the tokenizer of the "
                "server's model is not on this machine: give tokenizer=, as a tokenizer.json, a "
                "folder or a hub name"
            )
        return builder

    async def describe(self) -> str:
        """Return one line per server, with the result of its detection if there is one."""
        await self._detected()
        lines = []
        for endpoint in self.endpoints:
            unknown = "not detected yet" if endpoint.route is None else "not detected again yet"
            lines.append(f"{endpoint.address.url}: {endpoint.current or unknown}")
        return "\n".join(lines)

    async def fingerprint(self) -> str | None:
        """
        Return a digest of the servers, the model's name there, and everything that is sent to them.

        Headers and the API key are included, because a gateway may route by them. So are the
        headers, query parameters and cookies of an `http_client`, but not its transport, and
        whether instructions are left out because a server refuses them. The weights behind a
        model's name are unknown, so they are not included.

        Returns:
            The digest. None, with a warning, if the servers that are detected differ, because any
            of them may score a text.
        """
        await self._detected()
        routes = {e.route.fingerprint for e in self.endpoints if e.route}
        refusals = {e.refuses_instruction for e in self.endpoints} - {None}
        if len(routes) > 1 or len(refusals) > 1:
            self._reporter.warn(
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
        return digest(["remote", *sent, *routes, True in refusals])

    def endpoint_stats(self) -> Mapping[str, EndpointStats]:
        """Return what each server did so far and its back-off, by URL. Callable from any thread."""
        return {endpoint.address.url: endpoint.stats() for endpoint in self.endpoints}

    async def start(self, *, on_stage: Callable[[str], None] | None = None) -> None:  # noqa: ARG002
        """
        Detect a server, so that the first call does not have to.

        Args:
            on_stage: Not used: there is only one stage.
        """
        await self._detected()

    async def aclose(self) -> None:
        """Cancel pending calls, which raise `ClosedError`, and close the connections."""
        self._closed = True
        if self._process != os.getpid():
            self._leave_to_parent()
            return
        for task in self._calls:
            task.cancel()
        if self._finalizer.detach() is not None:
            await self._transport.aclose()

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """Let `aclose()` cancel what the current task does inside, which raises `ClosedError`."""
        self._check_open()
        task = asyncio.current_task()
        assert task is not None  # coroutines run in tasks
        self._calls.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # If the caller was canceled too, nobody is left to retrieve an error.
            if self._closed and task.uncancel() == 0:
                raise ClosedError("the reranker was closed while the call was waiting") from None
            raise
        finally:
            self._calls.discard(task)

    def _open(self) -> None:
        """Create what belongs to this process: the connections and the state of the servers."""
        self._process = os.getpid()
        self._transport = Transport(
            headers=self._options["headers"],
            verify=self._options["verify"],
            proxy=self._options["proxy"],
            max_connections=self._options["max_concurrency"],
            client=self._options["http_client"],
        )
        self._slots = asyncio.Semaphore(self._options["max_concurrency"])
        self.endpoints = [
            Endpoint(address, self._settings, self._transport) for address in self._addresses
        ]
        # For a reranker that is never closed.
        self._finalizer = weakref.finalize(self, _close, self._transport, self._process)
        self._finalizer.atexit = False

    def _check_open(self) -> None:
        """Raise an error if closed. In a forked child, start without the parent's connections."""
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

        The child shares the parent's sockets and its selector. Closing a connection, or canceling
        a task that waits for one, would shut down what the parent is using.
        """
        self._finalizer.detach()
        self._calls.clear()

    async def _detected(self) -> Route:
        """Return the route of one of the servers, within a time budget of its own."""
        async with self._call():
            route = self._current_route()
            if route is None:
                async for attempt in self._attempts(self._budget()):
                    async with attempt as endpoint:
                        return await endpoint.resolve()
            assert route is not None  # the attempts end with a return or an error
            return route

    def _budget(self) -> Budget:
        return Budget(self._settings.timeout, len(self.endpoints))

    def _attempts(self, budget: Budget) -> Attempts:
        return Attempts(self.endpoints, retries=self._options["max_retries"], budget=budget)

    def _current_route(self) -> Route | None:
        """Return the route of one of the servers; None if none is known."""
        return next((route for e in self.endpoints if (route := e.current)), None)

    async def _score_texts(
        self, query: str, texts: Sequence[str], instruction: str | None, budget: Budget
    ) -> Scores:
        """
        Score texts in one request if the server that takes it allows that, otherwise in several.

        What exceeds the limits of that server is split by them. These requests are sent
        concurrently, each with the full time. What a server refuses as too large is split in two.
        The halves are sent one after the other, in the slot of the whole, and share its time, so
        that a server that refuses everything gets few requests.
        """
        watch = Stopwatch()
        async with self._slots:
            result = await self._request(query, texts, instruction, budget, watch)
            if isinstance(result, Parts) and result.halved:
                result = await self._score_in_turn(query, result, instruction, budget)
        if isinstance(result, Scores):
            return result
        batches = (
            self._score_texts(query, batch, instruction, budget.copy()) for batch in result.texts
        )
        return joined(await event_loop.gather(batches), result.spent)

    async def _score_in_turn(
        self, query: str, parts: Parts, instruction: str | None, budget: Budget
    ) -> Scores:
        """Score the parts of a request one after the other, in the slot that the call holds."""
        scores = []
        for texts in parts.texts:
            result = await self._request(query, texts, instruction, budget, Stopwatch())
            if isinstance(result, Parts):
                result = await self._score_in_turn(query, result, instruction, budget)
            scores.append(result)
        return joined(scores, parts.spent)

    async def _request(
        self,
        query: str,
        texts: Sequence[str],
        instruction: str | None,
        budget: Budget,
        watch: Stopwatch,
    ) -> Scores | Parts:
        """Score texts in one request; return its parts if it is too large for the server."""
        attempts, halved = budget.attempts, False
        try:
            async for attempt in self._attempts(budget):
                async with attempt as endpoint:
                    route = await endpoint.resolve()
                    batches = split(query, texts, route.dialect.limits)
                    if len(batches) > 1:
                        parts = [texts[batch.start : batch.stop] for batch in batches]
                        break
                    await endpoint.check_support(route, texts, instruction)
                    scores = await endpoint.score(route, query, texts, instruction)
                    endpoint.usage += scores.usage.endpoints[endpoint.address.url]
                    current = endpoint.route
                    if current and current is not route:  # the server has changed
                        await endpoint.check_support(current, texts, instruction)
                    return _add_wait(scores, budget.attempts - attempts - 1, watch.lap())
        except TooLargeError as error:
            if len(texts) == 1:
                raise
            budget.halve(error)
            _logger.info("a request with %d documents is too large and is halved", len(texts))
            middle, halved = len(texts) // 2, True
            parts = [texts[:middle], texts[middle:]]
        retries = budget.attempts - attempts - 1
        spent = Usage(retries=retries, splits=int(halved), waiting_seconds=watch.lap())
        return Parts(parts, halved, spent)


def _add_wait(scores: Scores, retries: int, seconds: float) -> Scores:
    """Return scores with their retries, and with what of `seconds` was spent waiting."""
    used = scores.usage
    waited = max(0.0, seconds - used.tokenizing_seconds - used.scoring_seconds)
    return replace(scores, usage=used + Usage(retries=retries, waiting_seconds=waited))


def _close(transport: Transport, process: int) -> None:
    if process == os.getpid():  # a forked child leaves the connections to its parent
        event_loop.submit(transport.aclose())
