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

from qwen3_reranker.dialects import Dialect, TemplateBy, require_list
from qwen3_reranker.errors import (
    AnswerError,
    CheckpointError,
    DetectionError,
    InputError,
    ServerError,
)
from qwen3_reranker.model.probe import PROBES, Outcome, alike
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection.advice import (
    Rejection,
    ambiguity,
    lost,
    rejection,
    template_error,
)
from qwen3_reranker.remote.detection.candidates import candidates, hosted, of_kind
from qwen3_reranker.remote.detection.route import Post, Route, Template
from qwen3_reranker.remote.detection.server_info import ServerInfo, read_server_info
from qwen3_reranker.remote.request_encoder import RequestEncoder, ServerTokenizer, cached_tokenizer
from qwen3_reranker.remote.transport import RetryableError

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
        encoder = await self._encoder(server_info)
        rejected: list[Rejection] = []
        for dialect in chosen:
            for attempt in (1, 2):
                try:
                    return await self._resolve(dialect, server_info, encoder)
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

    async def _encoder(self, server_info: ServerInfo) -> RequestEncoder:
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
            encoder = await self._cached_encoder([name for name in names if name], server, length)
        else:
            encoder = RequestEncoder(self._tokenizer, server, length)
        if server is None or await self._agree(encoder, server):
            return encoder
        if self._tokenizer is not None:
            raise UnfitServerError(
                f"tokenizer= is not that of the model at {self._address.url}, whose /tokenize "
                "reads a prompt in other tokens: give the model's own, or None"
            )
        return RequestEncoder(None, server, length)

    async def _cached_encoder(
        self, names: Sequence[str], server: ServerTokenizer | None, length: int
    ) -> RequestEncoder:
        """Return a writer with the first cached tokenizer that is a Qwen3 reranker's, if any."""
        for name in dict.fromkeys(names):
            tokenizer = await asyncio.to_thread(cached_tokenizer, name)
            if tokenizer is not None:
                try:
                    return RequestEncoder(tokenizer, server, length)
                except CheckpointError:
                    continue
        return RequestEncoder(None, server, length)

    async def _agree(self, encoder: RequestEncoder, server: ServerTokenizer) -> bool:
        """Return whether the tokenizer here reads a prompt as the server's does."""
        if encoder.builder is None:
            return True
        query, texts = PROBES[0]
        prompt = encoder.builder.prompt(query, texts[0])
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

    async def _labels(self, dialect: Dialect, encoder: RequestEncoder) -> tuple[int, int] | None:
        if encoder.builder is not None:
            return encoder.builder.yes, encoder.builder.no
        if not dialect.needs_labels:
            return None
        tokenizer = self._server_tokenizer()
        yes, no = await tokenizer.encode("yes"), await tokenizer.encode("no")
        if len(yes) != 1 or len(no) != 1:
            raise AnswerError(f"the server's tokenizer reads 'yes' and 'no' as {yes} and {no}")
        return yes[0], no[0]

    async def _resolve(
        self, dialect: Dialect, server_info: ServerInfo, encoder: RequestEncoder
    ) -> Route:
        """Return the route in this dialect; raise if it is not spoken or does not score."""
        model = (
            self._model
            or self._address.rest
            or next(iter(server_info.models), dialect.default_model)
        )
        if dialect.answer_tokens:
            # Where the server does not say its limit, it may be the length that is written.
            limit = self._limit or encoder.max_length
            encoder = encoder.shortened(limit - dialect.answer_tokens)
        labels = await self._labels(dialect, encoder)
        paths = [self._address.endpoint] if self._address.endpoint else dialect.paths
        template_modes: Sequence[TemplateBy] = dialect.template_modes
        if self._template != "auto":
            if self._template not in template_modes:
                raise DetectionError(
                    f"template={self._template!r}: with {dialect.name} the template is always the "
                    f"{template_modes[0]}'s"
                )
            template_modes = (self._template,)
        missing: list[ServerError] = []
        for path in paths:
            routes = [
                Route(
                    dialect,
                    template_by,
                    path,
                    model,
                    encoder,
                    labels,
                    dialect.score == "logit",
                    server_info,
                    None,
                    self._warnings(server_info, encoder, model),
                )
                for template_by in template_modes
            ]
            if not self._probes:
                return routes[0]
            try:
                return await self._choose(routes)
            except ServerError as error:
                if error.status not in (404, 405):
                    raise
                missing.append(error)
        raise missing[0]

    async def _choose(self, routes: list[Route]) -> Route:
        """Return the way that passes the probe and fits the tokens counted."""
        outcomes = await asyncio.gather(
            *(self._probe(route) for route in routes), return_exceptions=True
        )
        errors = [o for o in outcomes if isinstance(o, BaseException)]
        for error in errors:
            if isinstance(error, RetryableError) and error.passing:
                raise error  # what the other way gave proves nothing
        tried = [
            (route, outcome)
            for route, outcome in zip(routes, outcomes, strict=True)
            if not isinstance(outcome, BaseException)
        ]
        if not tried:
            raise errors[0]
        route, outcome = _right(tried) or max(tried, key=lambda pair: pair[1].margin)
        if len(routes) == 1 and (doubt := template_error(route, outcome)):
            raise doubt
        if not outcome.passed:
            raise DetectionError(outcome.diagnosis())
        if outcome.may_be_cosines and await self._symmetric(route, outcome):
            raise DetectionError(
                f"the scores ({outcome}) stay the same when query and document change places, as the "
                "cosines of an embedding model do: serve a Qwen3-Reranker, or name it in model="
            )
        return replace(route, logits=outcome.logits, outcome=outcome)

    async def _probe(self, route: Route) -> Outcome:
        answers = await asyncio.gather(*(route.ask(self._post, *probe) for probe in PROBES))
        counted = [answer.tokens for answer in answers]
        tokens = None if None in counted else sum(n for n in counted if n is not None)
        return Outcome.read([answer.values for answer in answers], tokens, logits=route.logits)

    async def _symmetric(self, route: Route, outcome: Outcome) -> bool:
        """Return whether scores stay the same when query and document change places."""
        if route.dialect.ids or route.dialect.hosts:  # no embedding model is served like this
            return False
        pairs = [(query, text) for query, texts in PROBES for text in texts[:2]]
        try:
            swapped = await asyncio.gather(
                *(route.ask_swapped(self._post, *pair) for pair in pairs)
            )
        except RetryableError as error:
            if error.passing:
                raise
            return False
        except (ServerError, AnswerError):
            return False
        plain = [score for row in outcome.scores for score in row[:2]]
        return all(alike(a, b) for a, b in zip(plain, swapped, strict=True))

    def _warnings(
        self, server_info: ServerInfo, encoder: RequestEncoder, model: str | None
    ) -> tuple[str, ...]:
        """Return what a user has to know about a server that works."""
        unknown = lost(
            server_info,
            model=model is not None,
            max_length=self._limit is not None or self._max_length is not None,
            tokenizer=encoder.builder is not None,
        )
        return tuple(text for text in (unknown, self._ambiguity(server_info)) if text)


def _token_ids(answer: Any) -> list[int]:
    ids = require_list(answer, "tokens")
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
    routes = {route.template_by: (route, outcome) for route, outcome in tried}
    # What other dialects count may be characters, or the documents alone.
    if "server" not in routes or not routes["server"][0].dialect.counts:
        return None
    templated = routes["server"][1].templated
    if templated is None:
        return None
    return routes["server"] if templated else routes.get("client")
