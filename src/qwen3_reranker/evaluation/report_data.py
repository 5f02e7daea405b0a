"""The data of a report, which plots and pages are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.results import (
    Advice,
    DatasetSummary,
    Headroom,
    SystemResult,
    best_of,
)
from qwen3_reranker.version import __version__

__all__ = ["ReportData"]


@dataclass(frozen=True, repr=False)
class ReportData:
    """The fields of a `Report`, without its methods that print, draw and save."""

    dataset: DatasetSummary
    metrics: list[str]
    queries: list[str]
    systems: list[SystemResult]
    headroom: Headroom
    recommendation: list[Advice]
    version: str = field(default=__version__)

    def __getitem__(self, name: str) -> SystemResult:
        """Return the system with a name."""
        for system in self.systems:
            if system.name == name:
                return system
        known = ", ".join(repr(system.name) for system in self.systems)
        raise InputError(f"no system is called {name!r}: there are {known}")

    @property
    def best(self) -> SystemResult:
        """The reranker that is best by the first metric; the first one among equals."""
        return best_of(self.systems[1:], self.metrics[0])
