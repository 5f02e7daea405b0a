"""Write results in plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qwen3_reranker.evaluation.recommendation import SIGNIFICANT
from qwen3_reranker.evaluation.results import (
    Change,
    Changes,
    DatasetSummary,
    SystemResult,
    TopDocument,
)
from qwen3_reranker.evaluation.systems import instruction_names

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["heading", "lost_most", "results_table", "summarize", "text_table"]

_WIDTH = 100
_SHOWN = 80  # characters of a document


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """
    Return rows of cells as lines of text, the first column to the left, the others to the right.

    Args:
        rows: The rows, the header first, with as many cells each.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def results_table(systems: Sequence[SystemResult], metrics: Sequence[str]) -> str:
    """Return the means of all systems as a table, with a star at a significant difference."""
    rows = [["", *(f"{metric} " for metric in metrics)]]
    for system in systems:
        stars = {name: "*" if p < SIGNIFICANT else " " for name, p in system.p_values.items()}
        cells = [f"{system.metrics[name]:.3f}{stars.get(name, ' ')}" for name in metrics]
        rows.append([system.name, *cells])
    return text_table(rows)


def summarize(report: ReportData) -> str:
    """Return a report in plain text."""
    metric = report.metrics[0]
    best = report.best
    parts = [heading(report.dataset), results_table(report.systems, report.metrics)]
    if any(p < SIGNIFICANT for system in report.systems for p in system.p_values.values()):
        parts[-1] += "\n* differs from the retriever's order by more than chance (p < 0.05)"
    instructions = instruction_names(system.instruction for system in report.systems[1:])
    if len(instructions) > 1:
        parts.append("\n".join(f"{name}: {text}" for text, name in instructions.items() if text))
    if best.changes is not None:
        changes = best.changes
        parts.append(
            f"Queries by {metric} with {best.name}: {changes.helped} better, {changes.unchanged} "
            f"unchanged, {changes.hurt} worse."
            + (f" {lost_most(changes)}:" if changes.worst else "")
        )
        parts += ["\n".join(_change(change)) for change in changes.worst]
    advice = [_wrapped(f"- {advice.text}", "  ") for advice in report.recommendation]
    parts.append("\n".join(["What to do:", *advice]))
    return "\n\n".join(parts)


def heading(dataset: DatasetSummary) -> str:
    """Return in a line what was evaluated."""
    queries = _count(dataset.queries, "query", "queries")
    candidates = _count(dataset.candidates, "candidate", "candidates")
    text = f"{dataset.name}: {queries}, {candidates} ({dataset.first_stage})"
    if count := dataset.queries_without_candidates:
        text += f"; {_count(count, 'query has', 'queries have')} no candidate (0 in every metric)"
    if count := dataset.queries_without_relevant:
        more = _count(count, "further query has", "further queries have")
        text += f"; {more} no relevant document (used for thresholds only)"
    return text


def lost_most(changes: Changes) -> str:
    """Return a heading for the queries that lost most."""
    count = len(changes.worst)
    return "The query that got worse" if count == 1 else f"The {count} queries that lost most"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _change(change: Change) -> Iterator[str]:
    yield _wrapped(f"{change.before:.3f} to {change.after:.3f}  {change.text}", " " * 16)
    for when, top in (("before", change.top_before), ("after", change.top_after)):
        yield f"  {when:6}  {_document(top)}"


def _document(top: TopDocument | None) -> str:
    if top is None:
        return "nothing"
    grade = "unjudged" if top.grade is None else f"grade {top.grade}"
    score = "" if top.score is None else f", score {top.score:.3f}"
    return f"[{grade}{score}] {textwrap.shorten(top.text, _SHOWN, placeholder='…')}"


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
