"""
What a server is and how it wants to be asked: found out, never guessed.

Cheap GETs say what kind it is, which orders the dialects. Then each is tried with a probe until
one passes: an obvious pair has to score clearly above irrelevant ones. Who writes the template is
told by the tokens that the server counts, and where it counts none, by the scores.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from qwen3_reranker.errors import AnswerError, DetectionError, InputError, ServerError
from qwen3_reranker.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.scorers.address import Address
from qwen3_reranker.scorers.detection.candidates import candidates, hosted, of_kind
from qwen3_reranker.scorers.detection.probe import PROBES, Outcome
from qwen3_reranker.scorers.detection.route import Route, Template
from qwen3_reranker.scorers.detection.server_info import ServerInfo, read_server_info
from qwen3_reranker.scorers.dialects import Ask, Dialect, Owner, rows
from qwen3_reranker.scorers.transport import RetryableError
from qwen3_reranker.scorers.writing import ServerTokenizer, Writer, cached_tokenizer

__all__ = ["Detector"]

Post = Callable[[str, dict[str, Any]], Awaitable[Any]]
Get = Callable[[str], Awaitable[Any]]


class Detector:
    """
    Finds out how one server is asked.

    Args:
        address: Where it is.
        get: Returns the JSON answer of a path.
        post: Returns the JSON answer of a path to a body.
        adopt_key: Takes the environment's key for one of the dialects; says whether it did.
        dialect: The dialect, None to find it.
        template: Who writes the template, "auto" to find out.
        model: The model's name, None to take the server's.
        tokenizer: The content of the model's tokenizer.json, None to look for one.
        max_length: The most tokens of a prompt, None for 8192 or the server's lower limit.
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
        # The most tokens that the server's model takes, as far as the server says.
        self._limit: int | None = None

    async def run(self) -> Route:
        """
        Ask the server, and return how it is to be asked.

        Raises:
            DetectionError: Nothing there scores as a Qwen3 reranker does.
            RetryableError: The server cannot be reached.
            ServerError: It refused the key.
        """
        service = hosted(self._address)
        chosen = [self._dialect] if self._dialect else service
        self._adopt_key(chosen)
        server_info = ServerInfo() if service else await read_server_info(self._get)
        if not chosen:
            if self._adopt_key(of_kind(server_info)):  # what is behind the key can be read now
                server_info = await read_server_info(self._get)
            chosen = candidates(self._address, server_info)
        writer = await self._writer(server_info)
        rejected: list[tuple[str, ServerError | AnswerError]] = []
        for dialect in chosen:
            for attempt in (1, 2):
                try:
                    return await self._settle(dialect, server_info, writer)
                except RetryableError as error:
                    if error.passing:
                        raise  # it is the server that fails, not the dialect
                    if attempt == 2:  # an accident must not make a lesser dialect stick
                        rejected.append((dialect.name, error))
                except (ServerError, AnswerError) as error:
                    rejected.append((dialect.name, error))
                    break
        raise self._nothing(server_info, rejected)

    async def _writer(self, server_info: ServerInfo) -> Writer:
        limit = server_info.max_length
        tokenizes = server_info.kind in ("vLLM", "SGLang")
        if limit is None and tokenizes:  # the list of models may be behind a key
            limit = await self._tokenizers_length()
        self._limit = limit
        if self._max_length is not None and limit is not None and self._max_length > limit:
            raise InputError(
                f"max_length={self._max_length} is above what {self._address.url} takes ({limit} "
                f"tokens): give {limit} or less"
            )
        length = self._max_length or min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)
        tokenizer = self._tokenizer
        names = [self._model, *server_info.models, *server_info.sources]
        for name in dict.fromkeys(name for name in names if name):
            tokenizer = tokenizer or await asyncio.to_thread(cached_tokenizer, name)
        server = self._server_tokenizer() if tokenizes else None
        writer = Writer(tokenizer, server, length)
        if server is None or await self._agree(writer, server):
            return writer
        if self._tokenizer is not None:
            raise InputError(
                f"tokenizer= is not that of the model at {self._address.url}, whose /tokenize "
                "reads a prompt in other tokens: give the model's own, or None"
            )
        return Writer(None, server, length)

    async def _agree(self, writer: Writer, server: ServerTokenizer) -> bool:
        """Say whether the tokenizer at hand reads a prompt as the server's does."""
        if writer.builder is None:
            return True
        query, texts = PROBES[0]
        prompt = writer.builder.prompt(query, texts[0])
        try:
            return await server.encode(prompt.text) == prompt.ids
        except (ServerError, AnswerError) as error:
            if isinstance(error, RetryableError) and error.passing:
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
            ids = rows(await self._post("/tokenize", body), "tokens")
            if not all(type(token) is int for token in ids):
                raise AnswerError(f"/tokenize answered with no token ids: {ids!r:.200}")
            return ids

        async def decode(ids: list[int]) -> str:
            answer = await self._post("/detokenize", {"model": self._model, "tokens": ids})
            found = answer if isinstance(answer, dict) else {}
            text = found.get("prompt", found.get("text"))
            if not isinstance(text, str):
                raise AnswerError(f"/detokenize answered with no text: {answer!r:.200}")
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
        """Return the way to ask in this dialect; raise where it is not spoken or does not score."""
        model = (
            self._model
            or self._address.rest
            or next(iter(server_info.models), dialect.default_model)
        )
        if dialect.answer_tokens and self._limit:
            writer = writer.shortened(self._limit - dialect.answer_tokens)
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
                )
                for owner in owners
            ]
            if self._dialect is not None and self._template != "auto":
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
        if len(ways) == 1 and (doubt := _doubt(way, outcome)):
            raise _TemplateError(doubt)
        if not outcome.passed:
            raise DetectionError(outcome.diagnosis())
        return Route(**{**vars(way), "logits": outcome.logits, "outcome": outcome})

    async def _probe(self, way: Route) -> Outcome:
        answers = await asyncio.gather(*(self._ask(way, *probe) for probe in PROBES))
        counted = [way.dialect.usage(answer) for answer, _ in answers]
        tokens = None if None in counted else sum(n for n in counted if n is not None)
        return Outcome.read([scores for _, scores in answers], tokens, logits=way.logits)

    async def _ask(self, way: Route, query: str, texts: Sequence[str]) -> tuple[Any, list[float]]:
        written = await way.writer.write(query, texts, None, way.owner, ids=way.dialect.ids)
        ask = Ask(written.query, written.documents, None, way.model, way.labels)
        call = way.dialect.build(ask)
        answer = await self._post(call.path or way.path, call.body)
        return answer, way.dialect.parse(answer, len(texts))

    def _nothing(
        self, server_info: ServerInfo, rejected: Sequence[tuple[str, ServerError | AnswerError]]
    ) -> ServerError:
        """Return the error that says why nothing fits."""
        url = self._address.url
        for _, error in rejected:
            if isinstance(error, ServerError) and error.status in (401, 403):
                return error
        if len(rejected) == 1 and isinstance(rejected[0][1], ServerError):
            name, error = rejected[0]
            return DetectionError(f"{url} ({server_info}), dialect {name}: {error}")
        there = [f"{name}: {error}" for name, error in rejected if not _absent(error)]
        absent = [name for name, error in rejected if f"{name}: {error}" not in there]
        lines = [f"nothing at {url} ({server_info}) scores as a Qwen3 reranker does", *there]
        if absent:
            lines.append(f"not there: {', '.join(absent)}")
        message = "\n- ".join(lines)
        if not any(isinstance(error, _TemplateError) for _, error in rejected):
            message += "\n" + _ADVICE.get(server_info.kind or "", _ADVICE[""])
        return DetectionError(message)


class _TemplateError(DetectionError):
    """The template is written twice or not at all; the message says who should."""


def _absent(error: ServerError | AnswerError) -> bool:
    """Return whether a path is not there; an unknown model is a 404 too, on a path that is."""
    return (
        isinstance(error, ServerError)
        and error.status in (404, 405)
        and not re.search(r"answered 404: .*\bmodel\b", str(error), re.IGNORECASE)
    )


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


def _doubt(way: Route, outcome: Outcome) -> str | None:
    """Return why a given owner of the template cannot be right, by the tokens counted."""
    if way.owner == "client" and way.dialect.counts and outcome.doubled:
        return (
            f"the server counted {outcome.tokens} tokens for the probe, so it writes the template "
            "around a written prompt: give template='server', or start it without its own"
        )
    if way.owner == "server" and way.dialect.counts and outcome.templated is False:
        instead = "give template='client', or " if "client" in way.dialect.owners else ""
        return (
            f"the server counted {outcome.tokens} tokens for the probe, so it writes no template: "
            f"{instead}start it with a Qwen3 reranker's"
        )
    return None


# What to change on a server of a kind.
_ADVICE = {
    "vLLM": (
        'Start it with --runner pooling and --hf-overrides \'{"architectures": '
        '["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"], '
        '"is_original_qwen3_reranker": true}\' for an original checkpoint, without them for a '
        "converted one."
    ),
    "SGLang": (
        "Start it with the original checkpoint and without --is-embedding, or with a checkpoint "
        "converted to two labels [no, yes] and --is-embedding."
    ),
    "llama.cpp": (
        "Start it with --rerank and a GGUF file that holds the head and the template named rerank; "
        "llama.cpp's converter writes them if the model folder's name contains qwen3-reranker."
    ),
    "Infinity": "Give it a checkpoint with one label: qwen3-reranker convert MODEL FOLDER --labels 1.",
    "LiteLLM": "Give the proxy's key, without which it answers 500, and a rerank model's name.",
    "": "Give dialect= and template= if you know them; docs/servers.md says how to start a server.",
}
