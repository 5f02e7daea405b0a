"""Compare two results of load tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwen3_reranker.bench.results import STATISTICS, BenchResult

__all__ = ["Comparison", "Row", "compare"]

_NOT_COMPARED = {"date"}


@dataclass(frozen=True, slots=True)
class Row:
    """
    A number of two results.

    Attributes:
        name: The name of the attribute of `BenchResult` that holds it.
        label: Its label in the table.
        a: The number of the first result as text.
        b: The number of the second as text.
        ratio: The second divided by the first. None if one is unknown, or the first is 0.
    """

    name: str
    label: str
    a: str
    b: str
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Two results, compared.

    Attributes:
        rows: Their numbers, in the order of the table.
        settings: The settings in which the tests differ: the values of both, by name, and None for
            one that a test does not have. With different settings, the numbers do not say which
            backend is faster.
        environment: The entries of the environment that differ, except for the date, likewise.
    """

    rows: list[Row]
    settings: dict[str, tuple[Any, Any]]
    environment: dict[str, tuple[Any, Any]]

    def table(self) -> str:
        """Return the comparison as text."""
        width = max(len(row.label) for row in self.rows) + 2
        lines = [f"{'':<{width}}{'a':>12}{'b':>12}{'b/a':>8}"]
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            lines.append(f"{row.label + ':':<{width}}{row.a:>12}{row.b:>12}{ratio:>8}")
        return "\n".join([*lines, *self.notes()])

    def notes(self) -> list[str]:
        """Return lines that say which settings differ."""
        notes = []
        for title, differing in (
            ("The tests differ, so compare with care:", self.settings),
            ("What was measured differs:", self.environment),
        ):
            if differing:
                notes.append(title)
                notes += [f"  {name}: {a} -> {b}" for name, (a, b) in differing.items()]
        return notes


def compare(a: BenchResult, b: BenchResult) -> Comparison:
    """
    Compare two results.

    Args:
        a: The first result, by which the second is divided.
        b: The second result.
    """
    rows = []
    for each in STATISTICS:
        first, second = getattr(a, each.name), getattr(b, each.name)
        ratio = second / first if first and second is not None else None
        rows.append(Row(each.name, each.label, each.show(first), each.show(second), ratio))
    return Comparison(
        rows, _differing(a.settings, b.settings), _differing(a.environment, b.environment)
    )


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [name for name in {**a, **b} if name not in _NOT_COMPARED]
    return {n: (a.get(n), b.get(n)) for n in names if a.get(n) != b.get(n)}
