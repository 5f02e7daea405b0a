"""How one server is asked: the result of detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qwen3_reranker.scorers.base import digest
from qwen3_reranker.scorers.detection.probe import Outcome
from qwen3_reranker.scorers.detection.server_info import ServerInfo
from qwen3_reranker.scorers.dialects import Dialect, Owner
from qwen3_reranker.scorers.writing import Writer

__all__ = ["Route", "Template"]

Template = Literal["auto", "client", "server"]
"""Who writes the Qwen3 template; "auto" is detected."""


@dataclass(frozen=True)
class Route:
    """
    How one server is asked.

    Attributes:
        dialect: What it speaks.
        owner: Who writes the template.
        path: Where it is asked.
        model: The name that it knows the model by.
        writer: Writes what it is sent.
        labels: The ids of "yes" and "no", where they are known.
        logits: Whether it answers log-odds.
        server_info: What it says of itself.
        outcome: How the probe came out; None where everything was given and nothing probed.
    """

    dialect: Dialect
    owner: Owner
    path: str
    model: str | None
    writer: Writer
    labels: tuple[int, int] | None
    logits: bool
    server_info: ServerInfo
    outcome: Outcome | None

    @property
    def fingerprint(self) -> str:
        """Everything in a route that a score depends on, as a digest."""
        dialect = self.dialect
        kind = type(dialect)
        asked = [kind.__module__, kind.__qualname__, vars(dialect), dialect.name, self.path]
        template = [self.owner, self.labels, self.logits, self.writer.fingerprint]
        return digest([*asked, *template, self.model, str(self.server_info)])

    def __str__(self) -> str:
        ids = self.dialect.ids and self.writer.builder is not None
        template = "this client" if self.owner == "client" else "the server"
        probe = "not probed" if self.outcome is None else f"probe {self.outcome}"
        return (
            f"{self.server_info}, dialect {self.dialect.name} at {self.path}, "
            f"{'token ids' if ids else 'text'}, template written by {template}, "
            f"model {self.model}, max_length {self.writer.max_length}"
            f"{', log-odds' if self.logits else ''}; {probe}"
        )
