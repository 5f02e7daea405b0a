"""The evidence by which the scores of a server or of an engine are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen3_reranker.dialects import Dialect, dialects
from qwen3_reranker.doctor.diagnostic_client import Probed
from qwen3_reranker.doctor.prompt_variants import Rows, Variant
from qwen3_reranker.model.layout import CAUSAL
from qwen3_reranker.model.probe import Outcome
from qwen3_reranker.remote.detection import Route

__all__ = ["Evidence", "client_can_write", "is_embedding"]


@dataclass(frozen=True)
class Evidence:
    """
    The answers to the probe, and what else is known about their source.

    Attributes:
        outcome: The outcome of the probe.
        raw: The numbers as they were received, one list per query.
        answers: The complete answers of a server, one per query.
        route: The route that gave the answers; None for an embedded engine.
        model_info: The response of SGLang's `/model_info`; empty for other servers.
        expected_tokens: The tokens of the probe's prompts; None without a tokenizer.
        rendered: The prompt that the server's template writes according to the server; None if it
            does not say, or if it is none of `VARIANTS`.
        whole_prompts: The scores of complete prompts on the same server, by their index in
            `VARIANTS`; 0 is the correct prompt.
        noise: The largest difference between the log-odds of equal prompts on that server.
        other_side: The outcome of the probe if the other side writes the template; None if that
            does not work.
    """

    outcome: Outcome
    raw: Rows
    answers: Sequence[Any] = ()
    route: Route | None = None
    model_info: Mapping[str, Any] = field(default_factory=dict)
    expected_tokens: int | None = None
    rendered: Variant | None = None
    whole_prompts: Mapping[int, Rows] = field(default_factory=dict)
    noise: float = 0.0
    other_side: Outcome | None = None

    @classmethod
    def of_engine(cls, rows: Rows) -> Evidence:
        """Build from the probabilities that an embedded engine gave the probe."""
        return cls(Outcome.read(rows, None, logits=False), rows)

    @classmethod
    def of_server(cls, probed: Probed, model_info: Mapping[str, Any]) -> Evidence:
        """Build from a server's answers to the probe."""
        answers = [answer.raw for answer in probed.answers]
        return cls(probed.outcome, probed.rows, answers, probed.route, model_info)

    @property
    def scores(self) -> list[float]:
        """All probabilities, in the order of the probe's passages."""
        return [score for row in self.outcome.scores for score in row]

    @property
    def numbers(self) -> list[float]:
        """All numbers as they were received, in the order of the probe's passages."""
        return [number for row in self.raw for number in row]


def is_embedding(model_info: Mapping[str, Any]) -> bool:
    """Return whether SGLang says that it serves an original checkpoint as an embedding model."""
    architectures = model_info.get("architectures") or []
    return model_info.get("is_generation") is False and architectures == [CAUSAL]


def client_can_write(dialect: Dialect) -> bool:
    """Return whether servers of a dialect's kind also accept prompts that the client wrote."""
    return any(
        "client" in other.template_modes for other in dialects() if other.kind == dialect.kind
    )
