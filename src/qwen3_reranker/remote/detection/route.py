"""How to send requests to one server: the result of detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

from qwen3_reranker import event_loop
from qwen3_reranker.dialects import Dialect, ScoreRequest, TemplateBy
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.remote.detection.server_info import ServerInfo
from qwen3_reranker.remote.request_encoder import EncodedRequest, RequestEncoder
from qwen3_reranker.remote.server_client import ServerClient
from qwen3_reranker.scorer import digest

__all__ = ["Answer", "Route", "Template", "total_tokens"]

Template = Literal["auto", "client", "server"]
"""Who writes the Qwen3 template; "auto" detects it."""

# The template has 60 to 80 tokens per prompt. A count that is off by half of that means that the
# template is missing or written twice.
_HALF_TEMPLATE_TOKENS = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A server's answer to one request.

    Attributes:
        values: One number per document, in the order sent, as the server gave them.
        truncated: For each document, whether its end was cut off before it was sent.
        tokens: The number of prompt tokens that the server counted; None if it does not report it.
        raw: The parsed JSON body.
        seconds: The time from sending the request to receiving the response.
        template_fits: Whether `tokens` agrees with who is expected to write the template. True if
            that cannot be decided.
    """

    values: list[float]
    truncated: list[bool]
    tokens: int | None
    raw: Any = field(repr=False)  # may repeat secrets, and tracebacks may show it
    seconds: float
    template_fits: bool = True


def total_tokens(answers: Sequence[Answer]) -> int | None:
    """Return the number of prompt tokens of several answers; None if one does not report it."""
    counted = [answer.tokens for answer in answers if answer.tokens is not None]
    return sum(counted) if len(counted) == len(answers) else None


@dataclass(frozen=True)
class Route:
    """
    How to send requests to one server.

    Attributes:
        dialect: The protocol.
        template_by: Whether the client or the server writes the template.
        path: The path of the endpoint.
        model: The model's name on the server; None if it is unknown.
        encoder: Encodes queries and documents.
        labels: The token ids of "yes" and "no"; None if they are unknown.
        logits: Whether the server returns logits instead of probabilities.
        server_info: The server's metadata.
        outcome: The result of the probe; None if the server was not probed because both dialect
            and template were given.
        warnings: What a user should know about this server, one sentence each.
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

    @property
    def sends_instruction(self) -> bool:
        """Whether a request can carry an instruction: in the prompt, or in a field of its own."""
        return self.template_by == "client" or self.dialect.instruction

    async def encode(
        self, query: str, texts: Sequence[str], instruction: str | None = None
    ) -> EncodedRequest:
        """
        Encode a query and documents into the form that the server accepts.

        Args:
            query: The query.
            texts: The documents, at least one, none of them blank.
            instruction: The instruction; None stands for the default. It is not sent to a server
                that writes the template if the dialect has no field for it.

        Raises:
            PromptTooLongError: The instruction and the query leave no room for a document.
            InputError: A text is not Unicode text.
        """
        return await self.encoder.encode(
            query,
            texts,
            instruction,
            self.template_by,
            ids=self.dialect.ids,
            placeholders=self.dialect.placeholders,
        )

    async def ask(self, client: ServerClient, encoded: EncodedRequest) -> Answer:
        """
        Score documents: build one request, send it, and parse the response.

        Args:
            client: The client of the server.
            encoded: The query and the documents, as `encode()` returns them.

        Raises:
            ServerError: The server refused the request, or failed.
            AnswerError: The response does not contain one number per document.
        """
        dialect, documents = self.dialect, encoded.documents
        instruction = encoded.instruction if dialect.instruction else None
        http_request = dialect.build(
            ScoreRequest(encoded.query, documents, instruction, self.model, self.labels)
        )
        started = perf_counter()
        response = await client.post(http_request.path or self.path, http_request.body)
        seconds = perf_counter() - started
        values = response.read(lambda answer: dialect.parse(answer, len(documents)))
        tokens = response.read(dialect.usage)
        fits = await self._template_fits(encoded, tokens)
        return Answer(values, encoded.truncated, tokens, response.value, seconds, fits)

    async def probe(self, client: ServerClient) -> tuple[Answer, ...]:
        """
        Send the probe.

        Args:
            client: The client of the server.

        Returns:
            The answer to each query of `PROBES`.

        Raises:
            ServerError: The server refused a request, or failed.
            AnswerError: A response does not contain one number per document.
        """
        encoded = [await self.encode(query, texts) for query, texts in PROBES]
        return tuple(await event_loop.gather(self.ask(client, probe) for probe in encoded))

    async def ask_swapped(self, client: ServerClient, query: str, text: str) -> float:
        """Return the score of one document with the query and the document exchanged."""
        encoded = await self.encode(query, [text])
        swapped = EncodedRequest(encoded.documents[0], [encoded.query], encoded.truncated)
        return (await self.ask(client, swapped)).values[0]

    def equivalent(self, other: Route) -> bool:
        """Return whether both routes lead to the same scores."""
        return self.fingerprint == other.fingerprint

    async def _template_fits(self, encoded: EncodedRequest, tokens: int | None) -> bool:
        if tokens is None or not self.dialect.counts:
            return True
        texts = [text for text in encoded.documents if isinstance(text, str)]
        least, most = await event_loop.tokenize(
            lambda: self.encoder.count(encoded, self.template_by), texts
        )
        margin = _HALF_TEMPLATE_TOKENS * len(encoded.documents)
        return tokens < most + margin if self.template_by == "client" else tokens >= least + margin

    @property
    def fingerprint(self) -> str:
        """A digest of everything in the route that a score depends on."""
        dialect = self.dialect
        kind = type(dialect)
        protocol = [kind.__module__, kind.__qualname__, vars(dialect), dialect.name, self.path]
        template = [self.template_by, self.labels, self.logits, self.encoder.fingerprint]
        return digest([*protocol, *template, self.model, str(self.server_info)])

    def __str__(self) -> str:
        ids = self.dialect.ids and self.encoder.builder is not None
        template = "this client" if self.template_by == "client" else "the server"
        probe = "not probed" if self.outcome is None else f"probe {self.outcome}"
        route = (
            f"{self.server_info}, dialect {self.dialect.name} at {self.path}, "
            f"{'token ids' if ids else 'text'}, template written by {template}, "
            f"model {self.model}, max_length {self.encoder.max_length}"
            f"{', log-odds' if self.logits else ''}"
        )
        return "; ".join([route, probe, *(f"warning: {warning}" for warning in self.warnings)])
