"""The curves of a report: what each shows, how to read it, and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from qwen3_reranker.evaluation.plots import shown_systems
from qwen3_reranker.evaluation.report_page.charts import chart
from qwen3_reranker.evaluation.report_page.tables import ABSENT, details, table
from qwen3_reranker.evaluation.results import ScoreCurves, SystemResult
from qwen3_reranker.markup import Html, tag

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["curves_section"]

_THRESHOLD_ROWS = 25  # about so many of the thresholds of a curve are in its table


@dataclass(frozen=True)
class _Curve:
    """
    A plot with its words and numbers.

    Attributes:
        name: The name of the plot.
        heading: What it is about.
        caption: What it shows and how to read it.
        header: The header of its numbers.
        rows: Its numbers.
    """

    name: str
    heading: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def curves_section(report: ReportData) -> Html:
    """Return the plots of the best system, each with an explanation and its numbers."""
    best = report.best
    assert best.curves is not None
    caption = (
        f"The curves are those of {best.name}, the best system by {report.metrics[0]}, at its own "
        "depth. A purple line marks what is recommended: top_n and min_score for the recommended "
        "depth, at which the curves may differ a little."
    )
    if len(report.systems) > 2:
        caption += " In Python, report.plot(name, system=...) draws those of another system."
    figures = [
        _figure(report, best, curve)
        for curve in (
            _depth(report),
            _top_n(report, best),
            _min_score(best.curves),
            _scores(best.curves),
            _reliability(best.curves),
            _headroom(report),
            _nothing_relevant(best.curves),
        )
    ]
    return tag(
        "section", tag("h2", "Curves"), tag("p", caption), tag("div", *figures, class_="figures")
    )


def _figure(report: ReportData, system: SystemResult, curve: _Curve) -> Html:
    heading = tag("h3", curve.heading)
    assert system.curves is not None
    if not system.curves.depth.depth:  # no query with a relevant document has a candidate
        return tag("figure", heading, tag("figcaption", "Nothing to show: there is no candidate."))
    return tag(
        "figure",
        heading,
        tag("figcaption", curve.caption),
        chart(report, curve.name, system, curve.heading, curve.caption),
        details("Numbers", table(curve.header, curve.rows, curve.heading)),
    )


def _depth(report: ReportData) -> _Curve:
    metric, systems = report.metrics[0], shown_systems(report)
    rows = []
    for depth in report.headroom.depth:
        row = [f"{depth:,}"]
        for system in systems:
            assert system.curves is not None
            line = system.curves.depth
            known = dict(zip(line.depth, line.metrics[metric], strict=True))
            row.append(f"{known[depth]:.3f}" if depth in known else ABSENT)
        rows.append(row)
    return _Curve(
        "depth",
        "How many candidates to rerank",
        f"{metric} if only the first candidates are reranked. Where a line turns flat, more "
        "candidates cost time and gain nothing; the dashed line is the retriever's order.",
        ["Candidates", *(system.name for system in systems)],
        rows,
    )


def _top_n(report: ReportData, system: SystemResult) -> _Curve:
    curve, before = system.top_n, report.systems[0].top_n
    header = ["top_n", "Hit rate", "Recall", "Precision", "Hit rate before", "Recall before"]
    columns = [curve.hit, curve.recall, curve.precision, before.hit, before.recall]
    rows = [
        [str(n), *(_share(column[index]) for column in columns)]
        for index, n in enumerate(curve.top_n)
    ]
    caption = (
        "The share of queries with a relevant document among the first top_n (hit rate), and the "
        "share of all relevant documents among them (recall); thin dashed lines are the "
        "retriever's order. Fewer documents at the same height mean fewer tokens for the LLM"
    )
    if curve.tokens is not None:
        header.append("Tokens")
        for row, tokens in zip(rows, curve.tokens, strict=True):
            row.append(f"{tokens:,.0f}")
        caption += ", which are counted at the top"
    return _Curve("top_n", "How many documents for the LLM", f"{caption}.", header, rows)


def _min_score(curves: ScoreCurves) -> _Curve:
    curve = curves.min_score
    return _Curve(
        "min_score",
        "Precision and recall by threshold",
        "What a min_score keeps: precision is the share of relevant documents among those kept, "
        "recall the share of the relevant candidates that are kept. Choose the height of precision "
        "that you need, and read off below it what recall is left.",
        ["min_score", "Precision", "Recall", "Documents per query"],
        _some(
            [
                [f"{threshold:g}", _share(precision), _share(recall), f"{documents:.1f}"]
                for threshold, precision, recall, documents in zip(
                    curve.min_score, curve.precision, curve.recall, curve.documents, strict=True
                )
            ]
        ),
    )


def _scores(curves: ScoreCurves) -> _Curve:
    histogram = curves.histogram
    bins = zip(pairwise(histogram.edges), histogram.relevant, histogram.irrelevant, strict=True)
    return _Curve(
        "scores",
        "Scores of relevant and irrelevant documents",
        "How the scores of relevant and of irrelevant candidates are distributed. The less the two "
        "overlap, the better a threshold can tell them apart.",
        ["Score", "Relevant", "Irrelevant"],
        [
            [f"{low:.2f} to {high:.2f}", f"{relevant:,}", f"{irrelevant:,}"]
            for (low, high), relevant, irrelevant in bins
        ],
    )


def _reliability(curves: ScoreCurves) -> _Curve:
    curve = curves.reliability
    bins = zip(pairwise(curve.edges), curve.count, curve.score, curve.relevant, strict=True)
    return _Curve(
        "reliability",
        "What a score is worth",
        "The share of relevant documents among those with about the same score; larger dots are "
        "more documents. On the dashed line a score is a probability; below it, scores promise "
        "too much. The expected calibration error (ECE) is the mean distance from the line.",
        ["Score", "Documents", "Mean score", "Relevant"],
        [
            [f"{low:.1f} to {high:.1f}", f"{count:,}", _number(score), _share(share)]
            for (low, high), count, score, share in bins
        ],
    )


def _nothing_relevant(curves: ScoreCurves) -> _Curve:
    curve = curves.nothing_relevant
    return _Curve(
        "nothing_relevant",
        "Where nothing is relevant",
        "How often a document reaches the threshold where no candidate is relevant (those that are "
        "relevant are left out for that), beside how often a relevant one reaches it otherwise. A "
        "good threshold has a low orange and a high blue line.",
        ["min_score", "A relevant document passes", "Nothing is relevant, and a document passes"],
        _some(
            [
                [f"{threshold:g}", _share(answered), _share(accepted)]
                for threshold, answered, accepted in zip(
                    curve.min_score, curve.answered, curve.false_accept, strict=True
                )
            ]
        ),
    )


def _headroom(report: ReportData) -> _Curve:
    metric, headroom = report.metrics[0], report.headroom
    perfect = headroom.perfect[metric]
    return _Curve(
        "headroom",
        "What any reranker could gain",
        f"{metric} if so many candidates were in perfect order, beside what the reranker and "
        "the retriever reach, and the share of all relevant documents that are among so many "
        "candidates (recall). The distance from the dashed blue line to the green one is what is "
        "left to gain; if it is small, a better retriever helps more than a better reranker.",
        ["Candidates", f"Perfect {metric}", "Recall", "Hit rate"],
        [
            [f"{depth:,}", f"{ideal:.3f}", _share(recall), _share(hit)]
            for depth, ideal, recall, hit in zip(
                headroom.depth, perfect, headroom.recall, headroom.hit, strict=True
            )
        ],
    )


def _some(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return one in so many of the rows of all thresholds."""
    return rows[:: max(1, len(rows) // _THRESHOLD_ROWS)]


def _share(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"
