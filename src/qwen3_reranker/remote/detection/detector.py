"""
Detect a server's engine, endpoint and template handling by probing it.

A few inexpensive GET requests identify the kind of server, which decides in which order dialects
are tried. The first one that passes the probe is used: an obviously relevant pair has to score
clearly above irrelevant ones. Who writes the template follows from the tokens that the server
counts, or from the scores if it counts none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from qwen3_reranker import event_loop
from qwen3_reranker.dialects import Dialect, TemplateBy
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
    probe_error,
    rejection,
    template_error,
    unlisted,
)
from qwen3_reranker.remote.detection.candidates import candidates
from qwen3_reranker.remote.detection.identification import identify, needs_metadata
from qwen3_reranker.remote.detection.route import Route, Template, total_tokens
from qwen3_reranker.remote.detection.server_info import ServerInfo
from qwen3_reranker.remote.request_encoder import RequestEncoder
from qwen3_reranker.remote.responses import RetryableError, is_absent
from qwen3_reranker.remote.server_client import ServerClient
from qwen3_reranker.remote.tokenizers import ServerTokenizer, cached_tokenizer

__all__ = ["Basis", "Detector", "UnfitServerError"]

# Kinds of servers that have /tokenize and /detokenize.
_TOKENIZING = ("vLLM", "SGLang")


class UnfitServerError(InputError):
    """A setting does not fit this server. It may fit another one."""


@dataclass(frozen=True)
class Basis:
    """
    What all routes to a server have in common.

    Attributes:
        server_info: The server's metadata.
        encoder: Encodes queries and documents.
        limit: The maximum length of a prompt that the server reports, in tokens; None if it
            reports none.
    """

    server_info: ServerInfo
    encoder: RequestEncoder
    limit: int | None


class Detector:
    """
    Detect how requests to one server have to be sent.

    Args:
        client: The client of the server.
        dialect: The dialect. None detects it.
        template: Who writes the template. "auto" detects it.
        model: The model's name on the server. None uses the one that the server lists.
        tokenizer: The content of the model's tokenizer.json. None looks for one on this machine.
        max_length: The maximum number of tokens in a prompt. None uses 8192, or the server's limit
            if that is lower.
        address: The address to use instead of the client's.
        basis: What is known of the server already. None reads it.
        always_probe: Whether to probe even if both `dialect` and `template` are given.
    """

    def __init__(
        self,
        client: ServerClient,
        *,
        dialect: Dialect | None,
        template: Template,
        model: str | None,
        tokenizer: str | None,
        max_length: int | None,
        address: Address | None = None,
        basis: Basis | None = None,
        always_probe: bool = False,
    ) -> None:
        self._client = client
        self._address = address or client.address
        self._dialect = dialect
        self._template = template
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._probes = always_probe or dialect is None or template == "auto"
        self._basis = basis

    async def run(self) -> Route:
        """
        Detect the server.

        Raises:
            DetectionError: No endpoint of the server scores like a Qwen3 reranker.
            RetryableError: The server cannot be reached, or is overloaded.
            ServerError: The server refused the API key.
            UnfitServerError: `max_length` is above the server's limit, `tokenizer` is not that of
                its model, or the server's limit leaves no room for a document.
        """
        basis = await self.read_basis()
        server_info = basis.server_info
        chosen = [self._dialect] if self._dialect else candidates(self._address, server_info)
        rejected: list[Rejection] = []
        for dialect in chosen:
            for attempt in (1, 2):
                try:
                    with self._blame_limit(basis.limit):
                        return await self._resolve(dialect, basis)
                except RetryableError as error:
                    # A gateway may drop the connections for paths that it does not have.
                    dropped = error.disconnected and server_info.kind is None
                    if error.transient and not dropped:
                        raise  # another dialect would fail too
                    if attempt == 2:  # one failure must not lead to a less suitable dialect
                        rejected.append((dialect.name, error))
                except (ServerError, AnswerError) as error:
                    rejected.append((dialect.name, error))
                    break
        failure = rejection(self._address.url, server_info, rejected, self._ambiguity(server_info))
        lost = any(isinstance(e, RetryableError) and e.disconnected for _, e in rejected)
        if lost and isinstance(failure, DetectionError):  # the server may have died meanwhile
            raise RetryableError(str(failure))
        raise failure

    async def read_basis(self) -> Basis:
        """
        Return what all routes to the server have in common, which is read once.

        Raises:
            RetryableError: The server cannot be reached, or is overloaded.
            UnfitServerError: `max_length` is above the server's limit, `tokenizer` is not that of
                its model, or the server's limit leaves no room for a document.
        """
        if self._basis is not None:
            return self._basis
        server_info = await self._identify()
        limit, server = server_info.max_length, None
        if server_info.kind in _TOKENIZING:
            server = ServerTokenizer(self._client, self._model)
            if limit is None:  # the list of models may require a key
                limit = await server.max_length()
        with self._blame_limit(limit):
            encoder = await self._encoder(server_info, server, limit)
        self._basis = Basis(server_info, encoder, limit)
        return self._basis

    @contextmanager
    def _blame_limit(self, limit: int | None) -> Iterator[None]:
        """If a prompt is too long because of the server's limit, raise an error that says so."""
        try:
            yield
        except InputError as error:
            if isinstance(error, UnfitServerError) or limit is None or self._max_length is not None:
                raise
            raise UnfitServerError(
                f"{self._address.url} accepts only {limit} tokens in a prompt, which leaves no "
                "room for a document: start it with a longer context"
            ) from None

    def _ambiguity(self, server_info: ServerInfo) -> str | None:
        return None if self._model is not None else ambiguity(server_info)

    async def _identify(self) -> ServerInfo:
        needed = needs_metadata(self._address, self._dialect)
        try:
            return await identify(
                self._client, self._address, self._model, self._dialect, pages=needed
            )
        except RetryableError:
            if needed:
                raise
            return ServerInfo()

    async def _encoder(
        self, server_info: ServerInfo, server: ServerTokenizer | None, limit: int | None
    ) -> RequestEncoder:
        if self._max_length is not None and limit is not None and self._max_length > limit:
            raise UnfitServerError(
                f"max_length={self._max_length} is above what {self._address.url} takes ({limit} "
                f"tokens): give {limit} or less"
            )
        length = self._max_length or min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)
        if self._tokenizer is None:
            names = [self._model, *server_info.models, *server_info.sources]
            encoder = await self._cached_encoder([name for name in names if name], server, length)
        else:
            encoder = await _read_encoder(self._tokenizer, server, length)
        if server is None or await self._agree(encoder, server):
            return encoder
        if self._tokenizer is not None:
            raise UnfitServerError(
                f"tokenizer= is not that of the model at {self._address.url}, whose /tokenize "
                "returns other token ids for a prompt: give the model's own tokenizer, or None"
            )
        return RequestEncoder(None, server, length)

    async def _cached_encoder(
        self, names: Sequence[str], server: ServerTokenizer | None, length: int
    ) -> RequestEncoder:
        """Return an encoder with the first cached tokenizer that is a Qwen3 reranker's."""
        for name in dict.fromkeys(names):
            tokenizer = await asyncio.to_thread(cached_tokenizer, name)
            if tokenizer is not None:
                try:
                    return await _read_encoder(tokenizer, server, length)
                except CheckpointError:
                    continue
        return RequestEncoder(None, server, length)

    async def _agree(self, encoder: RequestEncoder, server: ServerTokenizer) -> bool:
        """Return whether both tokenizers give the same ids for a prompt."""
        if encoder.builder is None:
            return True
        query, texts = PROBES[0]
        prompt = encoder.builder.prompt(query, texts[0])
        try:
            return await server.encode(prompt.text) == prompt.ids
        except (ServerError, AnswerError) as error:
            if isinstance(error, RetryableError) and error.transient and not error.disconnected:
                raise
            return True  # unknown; the probe will show it

    async def _labels(self, dialect: Dialect, encoder: RequestEncoder) -> tuple[int, int] | None:
        if encoder.builder is not None:
            return encoder.builder.yes, encoder.builder.no
        if not dialect.needs_labels:
            return None
        tokenizer = ServerTokenizer(self._client, self._model)
        yes, no = await tokenizer.encode("yes"), await tokenizer.encode("no")
        if len(yes) != 1 or len(no) != 1:
            raise AnswerError(f"the server's tokenizer encodes 'yes' and 'no' as {yes} and {no}")
        return yes[0], no[0]

    async def _resolve(self, dialect: Dialect, basis: Basis) -> Route:
        """Return the route of a dialect; raise an error if the server does not score with it."""
        server_info, encoder = basis.server_info, basis.encoder
        model = (
            self._model
            or self._address.rest
            or next(iter(server_info.models), dialect.default_model)
        )
        if dialect.answer_tokens:
            # If the server does not report its limit, prompts may already be as long as it.
            limit = basis.limit or encoder.max_length
            encoder = await asyncio.to_thread(encoder.shortened, limit - dialect.answer_tokens)
        labels = await self._labels(dialect, encoder)
        paths = [self._address.endpoint] if self._address.endpoint else dialect.paths
        template_modes = self._template_modes(dialect)
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
                    self._warnings(basis, model),
                )
                for template_by in template_modes
            ]
            if not self._probes:
                return routes[0]
            try:
                return await self._choose(routes)
            except ServerError as error:
                if not is_absent(error):
                    raise
                missing.append(error)
        raise missing[0]

    def _template_modes(self, dialect: Dialect) -> Sequence[TemplateBy]:
        if self._template == "auto":
            return dialect.template_modes
        if self._template not in dialect.template_modes:
            raise DetectionError(
                f"template={self._template!r}: with {dialect.name} the template is always the "
                f"{dialect.template_modes[0]}'s"
            )
        return (self._template,)

    async def _choose(self, routes: list[Route]) -> Route:
        """Return the route that passes the probe and agrees with the tokens counted."""
        outcomes = await asyncio.gather(
            *(self._probe(route) for route in routes), return_exceptions=True
        )
        errors = [o for o in outcomes if isinstance(o, BaseException)]
        for error in errors:
            if isinstance(error, RetryableError) and error.transient:
                raise error  # the result of the other route proves nothing
        probed = [
            (route, outcome)
            for route, outcome in zip(routes, outcomes, strict=True)
            if not isinstance(outcome, BaseException)
        ]
        if not probed:
            raise errors[0]
        route, outcome = _proven(probed) or max(probed, key=lambda pair: pair[1].margin)
        if len(routes) == 1 and (doubt := template_error(route, outcome)):
            raise doubt
        if not outcome.passed:
            raise probe_error(outcome.problem, str(outcome))
        if outcome.may_be_cosines and await self._symmetric(route, outcome):
            raise DetectionError(
                f"the scores ({outcome}) stay the same when query and document are exchanged, as "
                "the cosines of an embedding model do: serve a Qwen3-Reranker, or name it in model="
            )
        return replace(route, logits=outcome.logits, outcome=outcome)

    async def _probe(self, route: Route) -> Outcome:
        answers = await route.probe(self._client)
        rows = [answer.values for answer in answers]
        return Outcome.read(rows, total_tokens(answers), logits=route.logits)

    async def _symmetric(self, route: Route, outcome: Outcome) -> bool:
        """Return whether exchanging query and document leaves the scores unchanged."""
        if route.dialect.ids or route.dialect.hosts:  # embedding models are not served like this
            return False
        pairs = [(query, text) for query, texts in PROBES for text in texts[:2]]
        try:
            swapped = await event_loop.gather(
                route.ask_swapped(self._client, *pair) for pair in pairs
            )
        except RetryableError as error:
            if error.transient:
                raise
            return False
        except (ServerError, AnswerError):
            return False
        plain = [score for row in outcome.scores for score in row[:2]]
        return all(alike(a, b) for a, b in zip(plain, swapped, strict=True))

    def _warnings(self, basis: Basis, model: str | None) -> tuple[str, ...]:
        """Return what a user should know about a server that works."""
        unknown = unlisted(
            basis.server_info,
            model=model is not None,
            max_length=basis.limit is not None or self._max_length is not None,
            tokenizer=basis.encoder.builder is not None,
        )
        return tuple(text for text in (unknown, self._ambiguity(basis.server_info)) if text)


async def _read_encoder(
    tokenizer: str, server: ServerTokenizer | None, max_length: int
) -> RequestEncoder:
    """Return an encoder. Reading the tokenizer takes a second, so this is done in a thread."""
    return await asyncio.to_thread(RequestEncoder, tokenizer, server, max_length)


def _proven(probed: Sequence[tuple[Route, Outcome]]) -> tuple[Route, Outcome] | None:
    """Return the route that the tokens counted prove right; None if they prove nothing."""
    routes = {route.template_by: (route, outcome) for route, outcome in probed}
    # Other dialects may count characters, or only the documents.
    if "server" not in routes or not routes["server"][0].dialect.counts:
        return None
    templated = routes["server"][1].templated
    if templated is None:
        return None
    return routes["server"] if templated else routes.get("client")
