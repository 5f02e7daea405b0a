"""Draw the parts of a report with matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.plot_style import (
    BACKGROUND,
    COLORS,
    add_legend,
    label_ends,
    mark_value,
    shorten,
    show_depths,
    show_percent,
    styled,
)
from qwen3_reranker.evaluation.results import ScoreCurves, SystemResult, differ_only_in

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["PLOTS", "figure_size", "plot", "shown_systems"]

_WIDTH = 4.4  # inches
_ON_DESK = 1.3  # how much larger a plot is in a notebook
# The lines by depth.
_LINES = [
    ("blue", "-"),
    ("orange", "-"),
    ("green", "--"),
    ("purple", ":"),
    ("blue", ":"),
    ("orange", "--"),
]


def plot(report: ReportData, name: str, system: SystemResult, axes: Axes | None) -> Axes:
    """
    Draw a part of a report, see `Report.plot()`.

    Args:
        report: The report.
        name: A key of `PLOTS`.
        system: Whose scores to draw, where the plot is about one system.
        axes: Where to draw. None makes a figure of pyplot, which notebooks show.

    Raises:
        InputError: There is no such plot, or nothing to show in it.
    """
    if name not in PLOTS:
        known = ", ".join(repr(known) for known in PLOTS)
        raise InputError(f"there is no plot {name!r}: give one of {known}")
    if system.curves is None:
        raise InputError(f"system={system.name!r} has no scores: give the name of a reranker")
    if not system.curves.depth.depth and name != "systems":
        raise InputError(f"the plot {name!r} has nothing to show: there is no candidate")
    if axes is None:
        from matplotlib import pyplot as plt

        width, height = figure_size(report, name)
        # Not within `styled()`, which would undo what a notebook's backend sets at the first
        # figure, so that no later one would be shown. The background is for dark notebooks.
        figure = plt.figure(
            figsize=(_ON_DESK * width, _ON_DESK * height),
            layout="constrained",
            facecolor=COLORS["card"],
        )
        with styled():
            axes = figure.subplots()
    with styled():
        PLOTS[name](report, system, system.curves, axes)
    return axes


def figure_size(report: ReportData, name: str) -> tuple[float, float]:
    """Return the width and height of a plot in inches, for the width of a phone."""
    if name == "systems":
        return _WIDTH, 0.7 + 0.5 * len(report.systems)
    legend = len(shown_systems(report)) + 1 if name == "depth" else 2
    return _WIDTH, 3.0 + 0.24 * legend


def shown_systems(report: ReportData) -> list[SystemResult]:
    """
    Return the systems with a line of their own in the plot by depth, best first.

    A system that differs from another one only in a smaller depth has the beginning of its line.
    """
    metric = report.metrics[0]
    distinct: list[SystemResult] = []
    for system in sorted(report.systems[1:], key=_depth, reverse=True):
        if not any(_begins(system, other, metric) for other in distinct):
            distinct.append(system)
    return sorted(distinct, key=lambda system: -system.metrics[metric])[: len(_LINES)]


def _begins(system: SystemResult, other: SystemResult, metric: str) -> bool:
    """Return whether the line of a system by depth is the beginning of another one's."""
    assert system.curves is not None
    assert other.curves is not None
    if not differ_only_in("depth", system, other):
        return False
    line, longer = (
        dict(zip(curve.depth, curve.metrics[metric], strict=True))
        for curve in (system.curves.depth, other.curves.depth)
    )
    return all(longer.get(depth, value) == value for depth, value in line.items())


def _depth(system: SystemResult) -> float:
    return float("inf") if system.depth is None else system.depth


def _systems(report: ReportData, _: SystemResult, __: ScoreCurves, axes: Axes) -> None:
    metric = report.metrics[0]
    shown = report.systems[::-1]
    for row, system in enumerate(shown):
        color = COLORS["muted" if system is report.systems[0] else "blue"]
        axes.plot(system.intervals[metric], [row, row], color=color, linewidth=3, alpha=0.5)
        axes.plot([system.metrics[metric]], [row], "o", color=color, markersize=7)
        axes.annotate(
            f"{shorten(system.name, 240)}: {system.metrics[metric]:.3f}",
            (0, row),
            (2, 10),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=color,
            bbox=BACKGROUND,
        )
    axes.axvline(report.systems[0].metrics[metric], color=COLORS["muted"], linestyle=":", zorder=0)
    axes.set(xlabel=f"{metric}, with 95 % intervals", ylim=(-0.5, len(shown) - 0.2), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, prune="lower"))


def _by_depth(report: ReportData, _: SystemResult, __: ScoreCurves, axes: Axes) -> None:
    metric = report.metrics[0]
    lines = []
    for system, (color, style) in zip(shown_systems(report), _LINES, strict=False):
        assert system.curves is not None
        curve = system.curves.depth
        [line] = axes.plot(
            curve.depth, curve.metrics[metric], color=COLORS[color], ls=style, marker="o", ms=4
        )
        lines.append((line, system.name))
    value = report.systems[0].metrics[metric]
    retriever = axes.axhline(value, color=COLORS["muted"], linestyle="--", linewidth=1.5)
    show_depths(axes, report.headroom.depth)
    axes.set(xlabel="candidates reranked", ylabel=metric)
    axes.margins(y=0.12)
    mark_value(axes, _recommended(report, "depth"))
    add_legend(axes, [*lines, (retriever, "the retriever's order")])


def _by_top_n(report: ReportData, system: SystemResult, _: ScoreCurves, axes: Axes) -> None:
    before, after = report.systems[0].top_n, system.top_n
    rows = (("hit", "hit rate", "blue"), ("recall", "recall", "orange"))
    labels = []
    for name, label, color in rows:
        axes.plot(before.top_n, getattr(before, name), color=COLORS[color], linewidth=1, ls="--")
        values = getattr(after, name)
        axes.plot(after.top_n, values, color=COLORS[color])
        labels.append((values[-1], label, COLORS[color]))
    deepest = after.top_n[-1]
    steps = range(1, 6) if deepest <= 5 else (1, 5, 10, 15, 20)
    ticks = [step for step in steps if step <= deepest]
    axes.set(xlabel="top_n: documents for the LLM", ylim=(0, 1.02), xlim=(0.5, deepest + 0.5))
    axes.set_xticks(ticks, [str(step) for step in ticks])
    show_percent(axes)
    if after.tokens is not None:
        tokens = after.tokens
        top = axes.secondary_xaxis("top")
        top.set_xticks(ticks, [f"{tokens[min(n, len(tokens)) - 1]:,.0f}" for n in ticks])
        top.set_xlabel("tokens that the LLM reads")
        top.spines["top"].set_color(COLORS["line"])
    mark_value(axes, _recommended(report, "top_n") if system is report.best else None)
    label_ends(axes, labels)


def _by_min_score(
    report: ReportData, system: SystemResult, curves: ScoreCurves, axes: Axes
) -> None:
    curve = curves.min_score
    known = [(x, y) for x, y in zip(curve.min_score, curve.precision, strict=True) if y is not None]
    axes.plot(*zip(*known, strict=True), color=COLORS["blue"])
    axes.plot(curve.min_score, curve.recall, color=COLORS["orange"])
    _thresholds(report, system, axes)
    label_ends(axes, [
        (known[-1][1], "precision", COLORS["blue"]),
        (curve.recall[-1], "recall", COLORS["orange"]),
    ])  # fmt: skip


def _scores(_: ReportData, __: SystemResult, curves: ScoreCurves, axes: Axes) -> None:
    histogram = curves.histogram
    lines = []
    for counts, name, color, hatch in (
        (histogram.irrelevant, "irrelevant or unjudged", "orange", "///"),
        (histogram.relevant, "relevant", "blue", None),
    ):
        shares = [count / max(1, sum(counts)) for count in counts]
        patch = axes.stairs(
            shares, histogram.edges, fill=hatch is None, color=COLORS[color], hatch=hatch, lw=1.2
        )
        patch.set_alpha(0.8)
        lines.append((patch, f"{name} ({sum(counts):,})"))
    axes.set(xlabel="score", ylabel="share of these documents", xlim=(0, 1))
    show_percent(axes)
    add_legend(axes, lines[::-1])


def _reliability(_: ReportData, __: SystemResult, curves: ScoreCurves, axes: Axes) -> None:
    reliability = curves.reliability
    points = [
        (score, share, count)
        for score, share, count in zip(
            reliability.score, reliability.relevant, reliability.count, strict=True
        )
        if score is not None and share is not None
    ]
    largest = max(count for _, _, count in points)
    scores, shares, counts = zip(*points, strict=True)
    [perfect] = axes.plot([0, 1], [0, 1], color=COLORS["muted"], linestyle="--", linewidth=1.2)
    [line] = axes.plot(scores, shares, color=COLORS["blue"], linewidth=1.5)
    sizes = [20 + 180 * count / largest for count in counts]
    axes.scatter(scores, shares, sizes, color=COLORS["blue"], clip_on=False, zorder=3)
    axes.set(xlabel="score", ylabel="share that is relevant", xlim=(0, 1), ylim=(0, 1.02))
    show_percent(axes)
    add_legend(
        axes, [(line, f"ECE {reliability.ece:.3f}"), (perfect, "perfectly calibrated, ECE 0")]
    )


def _headroom(report: ReportData, system: SystemResult, _: ScoreCurves, axes: Axes) -> None:
    metric, headroom = report.metrics[0], report.headroom
    perfect = headroom.perfect[metric]
    axes.plot(headroom.depth, perfect, color=COLORS["green"])
    axes.plot(headroom.depth, headroom.recall, color=COLORS["orange"], linestyle=":")
    labels = [
        (perfect[-1], "perfect", COLORS["green"]),
        (headroom.recall[-1], "recall", COLORS["orange"]),
    ]
    for result, name, color in (
        (system, "reranked", "blue"),
        (report.systems[0], "retriever", "muted"),
    ):
        value = result.metrics[metric]
        axes.axhline(value, color=COLORS[color], linestyle="--", linewidth=1.5)
        labels.append((value, name, COLORS[color]))
    show_depths(axes, headroom.depth)
    axes.set(xlabel="candidates", ylabel=f"{metric}, recall", ylim=(0, 1.02))
    label_ends(axes, labels)


def _nothing_relevant(
    report: ReportData, system: SystemResult, curves: ScoreCurves, axes: Axes
) -> None:
    curve = curves.nothing_relevant
    axes.plot(curve.min_score, curve.answered, color=COLORS["blue"])
    axes.plot(curve.min_score, curve.false_accept, color=COLORS["orange"], linestyle="--")
    _thresholds(report, system, axes)
    axes.set_ylabel("share of queries")
    add_legend(axes, [
        (axes.lines[0], "a relevant document passes"),
        (axes.lines[1], "nothing relevant, yet one passes"),
    ])  # fmt: skip


PLOTS: Mapping[str, Callable[[ReportData, SystemResult, ScoreCurves, Axes], None]] = {
    "systems": _systems,
    "depth": _by_depth,
    "top_n": _by_top_n,
    "min_score": _by_min_score,
    "scores": _scores,
    "reliability": _reliability,
    "headroom": _headroom,
    "nothing_relevant": _nothing_relevant,
}
"""What draws each plot, by its name."""


def _recommended(report: ReportData, topic: str) -> object:
    """Return what the report recommends on a topic, None for nothing."""
    return next((advice.value for advice in report.recommendation if advice.topic == topic), None)


def _thresholds(report: ReportData, system: SystemResult, axes: Axes) -> None:
    axes.set(xlabel="min_score", xlim=(0, 1), ylim=(0, 1.02))
    show_percent(axes)
    mark_value(axes, _recommended(report, "min_score") if system is report.best else None)
