"""The queries that systems made better or worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_reranker.evaluation.report_page.tables import details
from qwen3_reranker.evaluation.results import Change, Changes, SystemResult, TopDocument
from qwen3_reranker.evaluation.text import lost_most
from qwen3_reranker.markup import Html, join, tag

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["changes_section"]


def changes_section(report: ReportData) -> Html:
    """Return the queries that got better or worse: of the best system, and of others on demand."""
    metric, best = report.metrics[0], report.best
    others = [
        details(system.name, _changes(system, metric))
        for system in report.systems[1:]
        if system is not best
    ]
    more = [tag("h3", "Other systems"), *others] if others else []
    return tag(
        "section",
        tag("h2", "Queries helped and hurt"),
        tag(
            "p",
            f"How many queries have a higher or lower {metric} with {best.name} than in the "
            "retriever's order, and what was on top before and after where it fell most.",
        ),
        _changes(best, metric),
        *more,
    )


def _changes(system: SystemResult, metric: str) -> Html:
    changes = system.changes
    assert changes is not None
    content = [_bar(changes)]
    if changes.worst:
        content.append(tag("h3", lost_most(changes)))
        content.append(tag("ol", *(_change(c, metric) for c in changes.worst), class_="changes"))
    return join(*content)


def _bar(changes: Changes) -> Html:
    parts = [
        ("helped", "better", changes.helped),
        ("unchanged", "unchanged", changes.unchanged),
        ("hurt", "worse", changes.hurt),
    ]
    bar = [tag("span", class_=name, style=f"flex-grow: {count}") for name, _, count in parts]
    key = [
        tag("li", tag("b", f"{count:,}"), f" {label}", class_=name) for name, label, count in parts
    ]
    return join(tag("div", *bar, class_="bar", aria_hidden="true"), tag("ul", *key, class_="key"))


def _change(change: Change, metric: str) -> Html:
    return tag(
        "li",
        tag("p", change.text, class_="query"),
        tag("p", f"{metric} {change.before:.3f} → {change.after:.3f}", class_="small"),
        tag(
            "dl",
            tag("dt", "Before"),
            _document(change.top_before),
            tag("dt", "After"),
            _document(change.top_after),
        ),
    )


def _document(top: TopDocument | None) -> Html:
    if top is None:
        return tag("dd", "No candidate")
    grade = "unjudged" if top.grade is None else f"grade {top.grade}"
    score = "" if top.score is None else f", score {top.score:.3f}"
    return tag("dd", tag("span", f"{top.id} ({grade}{score})", class_="small"), " ", top.text)
