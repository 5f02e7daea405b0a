"""
Detect a server's kind, endpoint and template handling by probing it.

A few inexpensive GETs say what kind of server it is, which orders the dialects. Then each dialect is
probed until one passes: an obvious pair has to score clearly above irrelevant ones. Who writes the
template is told by the tokens that the server counts, and by the scores if it counts none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from qwen3_reranker.errors import (
    AnswerError,
    CheckpointError,
    DetectionError,
    InputError,
    ServerError,
)
from qwen3_reranker.probe import PROBES, Outcome, alike
from qwen3_reranker.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.scorers.address import Address
from qwen3_reranker.scorers.detection.advice import (
    Rejection,
    ambiguity,
    lost,
    rejection,
    template_error,
)
from qwen3_reranker.scorers.detection.candidates import candidates, hosted, of_kind
from qwen3_reranker.scorers.detection.route import Post, Route, Template
from qwen3_reranker.scorers.detection.server_info import ServerInfo, read_server_info
from qwen3_reranker.scorers.dialects import Dialect, Owner, rows
from qwen3_reranker.scorers.transport import RetryableError
from qwen3_reranker.scorers.writing import ServerTokenizer, Writer, cached_tokenizer

__all__ = ["Detector", "UnfitServerError"]

Get = Callable[[str], Awaitable[Any]]


class UnfitServerError(InputError):
    """A setting does not fit one server; it may fit another."""


class Detector:
    """
    Detect how one server is asked.

    Args:
        address: The server's address.
        get: Returns the JSON answer of a path.
        post: Posts a body to a path, and returns the JSON answer.
        adopt_key: Loads an API key from the environment for one of the dialects; returns whether it
            found one.
        dialect: The dialect; None detects it.
        template: Who writes the template; "auto" detects it.
        model: The model's name on the server; None takes what the server lists.
        tokenizer: The content of the model's tokenizer.json; None looks for one on this machine.
        max_length: The most tokens of a prompt; None takes 8192 or the server's lower limit.
        always_probe: Whether to probe even if both `dialect` and `template` are given.
    """

    def __init__(
        self,
        address: Address,
        get: Get,
        post: Post,
        adopt_key: Callable[[Sequence[Dialect]], bool],
        *,
        dialect: Dialect | None,
        template: Template,
        model: str | None,
        tokenizer: str | None,
        max_length: int | None,
        always_probe: bool = False,
    ) -> None:
        self._address = address
        self._get = get
        self._post = post
        self._adopt_key = adopt_key
        self._dialect = dialect
        self._template = template
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._probes = always_probe or dialect is None or template == "auto"
        # The most tokens that the server's model takes, as far as the server says.
        self._limit: int | None = None

    async def run(self) -> Route:
        """
        Detect the server.

        Raises:
            DetectionError: Nothing there scores as a Qwen3 reranker does.
            RetryableError: The server cannot be reached, or is overloaded.
            ServerError: The server refused the key.
            UnfitServerError: `max_length` is above the server's limit, or `tokenizer` is not that
                of its model.
        """
        service = hosted(self._address)
        chosen = [self._dialect] if self._dialect else service
        self._adopt_key(chosen)
        server_info = ServerInfo() if service else await self._read_server_info()
        if not chosen:
            if self._adopt_key(of_kind(server_info)):  # what is behind the key can be read now
                server_info = await self._read_server_info()
            chosen = candidates(self._address, server_info)
        writer = await self._writer(server_info)
        rejected: list[Rejection] = []
        for dialect in chosen:
            for attempt in (1, 2):
                try:
                    return await self._settle(dialect, server_info, writer)
                except RetryableError as error:
                    if error.passing:
                        raise  # the server fails, whatever the dialect
                    if attempt == 2:  # an accident must not make a lesser dialect stick
                        rejected.append((dialect.name, error))
                except (ServerError, AnswerError) as error:
                    rejected.append((dialect.name, error))
                    break
        raise rejection(self._address.url, server_info, rejected, self._ambiguity(server_info))

    def _ambiguity(self, server_info: ServerInfo) -> str | None:
        return None if self._model is not None else ambiguity(server_info)

    async def _read_server_info(self) -> ServerInfo:
        told = self._dialect is not None or self._address.endpoint is not None
        try:
            return await read_server_info(self._get, self._model, pages=not told)
        except RetryableError:
            if not told:
                raise
            return ServerInfo()  # a gateway may drop every connection but those to the endpoint

    async def _writer(self, server_info: ServerInfo) -> Writer:
        limit = server_info.max_length
        tokenizes = server_info.kind in ("vLLM", "SGLang")
        if limit is None and tokenizes:  # the list of models may be behind a key
            limit = await self._tokenizers_length()
        self._limit = limit
        if self._max_length is not None and limit is not None and self._max_length > limit:
            raise UnfitServerError(
                f"max_length={self._max_length} is above what {self._address.url} takes ({limit} "
                f"tokens): give {limit} or less"
            )
        length = self._max_length or min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)
        server = self._server_tokenizer() if tokenizes else None
        if self._tokenizer is None:
            names = [self._model, *server_info.models, *server_info.sources]
            writer = await self._cached_writer([name for name in names if name], server, length)
        else:
            writer = Writer(self._tokenizer, server, length)
        if server is None or await self._agree(writer, server):
            return writer
        if self._tokenizer is not None:
            raise UnfitServerError(
                f"tokenizer= is not that of the model at {self._address.url}, whose /tokenize "
                "reads a prompt in other tokens: give the model's own, or None"
            )
        return Writer(None, server, length)

    async def _cached_writer(
        self, names: Sequence[str], server: ServerTokenizer | None, length: int
    ) -> Writer:
        """Return a writer with the first cached tokenizer that is a Qwen3 reranker's, if any."""
        for name in dict.fromkeys(names):
            tokenizer = await asyncio.to_thread(cached_tokenizer, name)
            if tokenizer is not None:
                try:
                    return Writer(tokenizer, server, length)
                except CheckpointError:
                    continue
        return Writer(None, server, length)

    async def _agree(self, writer: Writer, server: ServerTokenizer) -> bool:
        """Return whether the tokenizer here reads a prompt as the server's does."""
        if writer.builder is None:
            return True
        query, texts = PROBES[0]
        prompt = writer.builder.prompt(query, texts[0])
        try:
            return await server.encode(prompt.text) == prompt.ids
        except (ServerError, AnswerError) as error:
            if isinstance(error, RetryableError) and error.passing and not error.disconnected:
                raise
            return True  # it does not say; the probe will

    async def _tokenizers_length(self) -> int | None:
        """Return the length that `/tokenize` tells, which vLLM's key does not guard."""
        try:
            answer = await self._post("/tokenize", {"prompt": "yes"})
        except ServerError:
            return None
        length = answer.get("max_model_len") if isinstance(answer, dict) else None
        return length if type(length) is int and length > 0 else None

    def _server_tokenizer(self) -> ServerTokenizer:
        async def encode(text: str) -> list[int]:
            body = {"model": self._model, "prompt": text, "add_special_tokens": False}
            ids: list[int] = await self._post("/tokenize", body, _token_ids)
            return ids

        async def decode(ids: list[int]) -> str:
            body = {"model": self._model, "tokens": ids}
            text: str = await self._post("/detokenize", body, _plain_text)
            return text

        return ServerTokenizer(encode, decode)

    async def _labels(self, dialect: Dialect, writer: Writer) -> tuple[int, int] | None:
        if writer.builder is not None:
            return writer.builder.yes, writer.builder.no
        if not dialect.needs_labels:
            return None
        tokenizer = self._server_tokenizer()
        yes, no = await tokenizer.encode("yes"), await tokenizer.encode("no")
        if len(yes) != 1 or len(no) != 1:
            raise AnswerError(f"the server's tokenizer reads 'yes' and 'no' as {yes} and {no}")
        return yes[0], no[0]

    async def _settle(self, dialect: Dialect, server_info: ServerInfo, writer: Writer) -> Route:
        """Return the route in this dialect; raise if it is not spoken or does not score."""
        model = (
            self._model
            or self._address.rest
            or next(iter(server_info.models), dialect.default_model)
        )
        if dialect.answer_tokens:
            # Where the server does not say its limit, it may be the length that is written.
            limit = self._limit or writer.max_length
            writer = writer.shortened(limit - dialect.answer_tokens)
        labels = await self._labels(dialect, writer)
        paths = [self._address.endpoint] if self._address.endpoint else dialect.paths
        owners: Sequence[Owner] = dialect.owners
        if self._template != "auto":
            if self._template not in owners:
                raise DetectionError(
                    f"template={self._template!r}: with {dialect.name} the template is always the "
                    f"{owners[0]}'s"
                )
            owners = (self._template,)
        missing: list[ServerError] = []
        for path in paths:
            served = [
                Route(
                    dialect,
                    owner,
                    path,
                    model,
                    writer,
                    labels,
                    dialect.score == "logit",
                    server_info,
                    None,
                    self._warnings(server_info, writer, model),
                )
                for owner in owners
            ]
            if not self._probes:
                return served[0]
            try:
                return await self._choose(served)
            except ServerError as error:
                if error.status not in (404, 405):
                    raise
                missing.append(error)
        raise missing[0]

    async def _choose(self, ways: list[Route]) -> Route:
        """Return the way that passes the probe and fits the tokens counted."""
        outcomes = await asyncio.gather(*(self._probe(way) for way in ways), return_exceptions=True)
        errors = [o for o in outcomes if isinstance(o, BaseException)]
        for error in errors:
            if isinstance(error, RetryableError) and error.passing:
                raise error  # what the other way gave proves nothing
        tried = [
            (way, outcome)
            for way, outcome in zip(ways, outcomes, strict=True)
            if not isinstance(outcome, BaseException)
        ]
        if not tried:
            raise errors[0]
        way, outcome = _right(tried) or max(tried, key=lambda pair: pair[1].margin)
        if len(ways) == 1 and (doubt := template_error(way, outcome)):
            raise doubt
        if not outcome.passed:
            raise DetectionError(outcome.diagnosis())
        if outcome.may_be_cosines and await self._symmetric(way, outcome):
            raise DetectionError(
                f"the scores ({outcome}) stay the same when query and document change places, as the "
                "cosines of an embedding model do: serve a Qwen3-Reranker, or name it in model="
            )
        return replace(way, logits=outcome.logits, outcome=outcome)

    async def _probe(self, way: Route) -> Outcome:
        answers = await asyncio.gather(*(way.ask(self._post, *probe) for probe in PROBES))
        counted = [answer.tokens for answer in answers]
        tokens = None if None in counted else sum(n for n in counted if n is not None)
        return Outcome.read([answer.values for answer in answers], tokens, logits=way.logits)

    async def _symmetric(self, way: Route, outcome: Outcome) -> bool:
        """Return whether scores stay the same when query and document change places."""
        if way.dialect.ids or way.dialect.hosts:  # no embedding model is served like this
            return False
        pairs = [(query, text) for query, texts in PROBES for text in texts[:2]]
        try:
            swapped = await asyncio.gather(*(way.ask_swapped(self._post, *pair) for pair in pairs))
        except RetryableError as error:
            if error.passing:
                raise
            return False
        except (ServerError, AnswerError):
            return False
        plain = [score for row in outcome.scores for score in row[:2]]
        return all(alike(a, b) for a, b in zip(plain, swapped, strict=True))

    def _warnings(
        self, server_info: ServerInfo, writer: Writer, model: str | None
    ) -> tuple[str, ...]:
        """Return what a user has to know about a server that works."""
        unknown = lost(
            server_info,
            model=model is not None,
            max_length=self._limit is not None or self._max_length is not None,
            tokenizer=writer.builder is not None,
        )
        return tuple(text for text in (unknown, self._ambiguity(server_info)) if text)


def _token_ids(answer: Any) -> list[int]:
    ids = rows(answer, "tokens")
    if not all(type(token) is int for token in ids):
        raise AnswerError(f"/tokenize answered with no token ids: {ids!r:.200}")
    return ids


def _plain_text(answer: Any) -> str:
    found = answer if isinstance(answer, dict) else {}
    text = found.get("prompt", found.get("text"))
    if not isinstance(text, str):
        raise AnswerError(f"/detokenize answered with no text: {answer!r:.200}")
    return text


def _right(tried: Sequence[tuple[Route, Outcome]]) -> tuple[Route, Outcome] | None:
    """Return the way that the counted tokens prove right, None where they prove nothing."""
    ways = {way.owner: (way, outcome) for way, outcome in tried}
    # What other dialects count may be characters, or the documents alone.
    if "server" not in ways or not ways["server"][0].dialect.counts:
        return None
    templated = ways["server"][1].templated
    if templated is None:
        return None
    return ways["server"] if templated else ways.get("client")
