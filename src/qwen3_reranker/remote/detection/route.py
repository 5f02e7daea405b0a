"""How one server is asked: the result of detection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen3_reranker import event_loop
from qwen3_reranker.dialects import Dialect, ScoreRequest, TemplateBy
from qwen3_reranker.dialects.base import Text
from qwen3_reranker.model.probe import Outcome
from qwen3_reranker.remote.detection.server_info import ServerInfo
from qwen3_reranker.remote.request_encoder import EncodedRequest, RequestEncoder
from qwen3_reranker.scorer import digest

__all__ = ["Answer", "Post", "Route", "Template"]

Template = Literal["auto", "client", "server"]
"""Who writes the Qwen3 template; "auto" is detected."""

Post = Callable[..., Awaitable[Any]]
"""Posts a body to a path of the server, and reads the JSON answer; see `ServerClient.post`."""

# The template takes 60 to 80 tokens a prompt. A count that is off by half of that has one more or
# one less.
_HALF_A_TEMPLATE = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A server's answer to one request.

    Attributes:
        values: One number per document, in the order sent, as on the wire.
        truncated: Which documents were cut before they were sent.
        tokens: The prompt tokens that the server counted; None if it does not say.
        template_fits: Whether these tokens agree with who is expected to write the template. True
            if nothing can be said.
    """

    values: list[float]
    truncated: list[bool]
    tokens: int | None
    template_fits: bool


@dataclass(frozen=True)
class Route:
    """
    How one server is asked.

    Attributes:
        dialect: The dialect that it speaks.
        template_by: Who writes the template.
        path: The path that requests are posted to.
        model: The model's name on the server.
        encoder: Writes what it is sent.
        labels: The token ids of "yes" and "no", where they are known.
        logits: Whether it answers log-odds.
        server_info: What the server says of itself.
        outcome: The result of the probe; None if dialect and template were given and nothing was
            probed.
        warnings: What a user has to know about this server, a sentence each.
    """

    dialect: Dialect
    template_by: TemplateBy
    path: str
    model: str | None
    encoder: RequestEncoder
    labels: tuple[int, int] | None
    logits: bool
    server_info: ServerInfo
    outcome: Outcome | None
    warnings: tuple[str, ...] = ()

    async def ask(
        self, post: Post, query: str, texts: Sequence[str], instruction: str | None = None
    ) -> Answer:
        """
        Score texts in one request.

        Args:
            post: Sends a request to the server.
            query: The query.
            texts: The documents, 1 or more, none of them blank.
            instruction: The instruction; None takes the default. Left out where the server writes
                the template and the dialect has no field for it.

        Raises:
            ServerError: The server refused the request, or failed.
            AnswerError: The answer does not hold one number per document.
        """
        encoded = await self._encode(query, texts, instruction)
        carried = encoded.instruction if self.dialect.instruction else None
        values, tokens = await self._send(post, encoded.query, encoded.documents, carried)
        fits = await self._template_fits(encoded, tokens)
        return Answer(values, encoded.truncated, tokens, fits)

    async def ask_swapped(self, post: Post, query: str, text: str) -> float:
        """Score one document with query and document in each other's place; raises as `ask`."""
        encoded = await self._encode(query, [text])
        values, _ = await self._send(post, encoded.documents[0], [encoded.query])
        return values[0]

    def same(self, other: Route) -> bool:
        """Return whether another detection came to the same result."""
        return self.fingerprint == other.fingerprint

    async def _encode(
        self, query: str, texts: Sequence[str], instruction: str | None = None
    ) -> EncodedRequest:
        return await self.encoder.encode(
            query,
            texts,
            instruction,
            self.template_by,
            ids=self.dialect.ids,
            placeholders=self.dialect.placeholders,
        )

    async def _send(
        self, post: Post, query: Text, documents: Sequence[Text], instruction: str | None = None
    ) -> tuple[list[float], int | None]:
        """Return the scores of one request, and the tokens that the server counted."""
        request = ScoreRequest(query, documents, instruction, self.model, self.labels)
        http_request = self.dialect.build(request)
        found: tuple[list[float], int | None] = await post(
            http_request.path or self.path,
            http_request.body,
            lambda answer: (self.dialect.parse(answer, len(documents)), self.dialect.usage(answer)),
        )
        return found

    async def _template_fits(self, encoded: EncodedRequest, tokens: int | None) -> bool:
        if tokens is None or not self.dialect.counts:
            return True

        def count() -> tuple[int, int]:
            return self.encoder.count(encoded, self.template_by)

        texts = [text for text in encoded.documents if isinstance(text, str)]
        least, most = await event_loop.tokenize(count, texts)
        margin = _HALF_A_TEMPLATE * len(encoded.documents)
        return tokens < most + margin if self.template_by == "client" else tokens >= least + margin

    @property
    def fingerprint(self) -> str:
        """Everything in a route that a score depends on, as a digest."""
        dialect = self.dialect
        kind = type(dialect)
        asked = [kind.__module__, kind.__qualname__, vars(dialect), dialect.name, self.path]
        template = [self.template_by, self.labels, self.logits, self.encoder.fingerprint]
        return digest([*asked, *template, self.model, str(self.server_info)])

    def __str__(self) -> str:
        ids = self.dialect.ids and self.encoder.builder is not None
        template = "this client" if self.template_by == "client" else "the server"
        probe = "not probed" if self.outcome is None else f"probe {self.outcome}"
        how = (
            f"{self.server_info}, dialect {self.dialect.name} at {self.path}, "
            f"{'token ids' if ids else 'text'}, template written by {template}, "
            f"model {self.model}, max_length {self.encoder.max_length}"
            f"{', log-odds' if self.logits else ''}"
        )
        return "; ".join([how, probe, *(f"warning: {warning}" for warning in self.warnings)])
