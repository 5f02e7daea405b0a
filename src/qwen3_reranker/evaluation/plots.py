"""Draw the parts of a report with matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.results import ScoreCurves, SystemResult
from qwen3_reranker.terminal import escape_control

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report import Report

__all__ = ["COLORS", "HEIGHT", "PLOTS", "WIDTH", "plot", "shown_systems", "styled"]

COLORS: Mapping[str, str] = {
    "ink": "#1d2329",
    "muted": "#59636e",
    "line": "#d5dae0",
    "card": "#ffffff",
    "blue": "#0a5ea8",
    "orange": "#a84b00",
    "green": "#00705a",
    "purple": "#8a2f78",
}
"""The colors of the plots, which can be told apart with any kind of color vision."""

WIDTH, HEIGHT = 4.4, 3.0
"""The size of a plot in inches, without the legend."""

_SERIES = ("blue", "orange", "green", "purple")
_STYLES = ("-", "--", ":")
_SHOWN = 6  # lines in a plot
_LEGEND_SPACE, _ROW_SPACE = 225, 240  # points for a name in the legend and in a row
_BACKGROUND = {"facecolor": COLORS["card"], "edgecolor": "none", "pad": 1.5}  # of a label
_LABEL_GAP = 0.09  # between labels at the ends of lines, as a share of the plot's height
_LABELS = (0.06, 0.96)  # where labels at the ends of lines touch no label of an axis
_STYLE = {
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.grid": True,
    "figure.facecolor": "none",
    "font.size": 11,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 2,
    "text.color": COLORS["ink"],
    "text.parse_math": False,  # a dollar sign in a name is only that
    "xtick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.color": COLORS["line"],
    "ytick.labelcolor": COLORS["muted"],
}


@contextmanager
def styled(**settings: Any) -> Iterator[None]:
    """Draw in the style of reports, with further settings of matplotlib."""
    with mpl.rc_context({**_STYLE, **settings}):
        yield


def plot(report: Report, name: str, system: SystemResult, axes: Axes | None) -> Axes:
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
    if not any(system.curves.reliability.count) and name != "systems":
        raise InputError(f"the plot {name!r} has nothing to show: there is no candidate")
    with styled():
        if axes is None:
            from matplotlib import pyplot as plt

            _, axes = plt.subplots(figsize=(1.3 * WIDTH, 1.3 * HEIGHT), layout="constrained")
        PLOTS[name](report, system, system.curves, axes)
    return axes


def shown_systems(report: Report) -> list[SystemResult]:
    """
    Return the systems with a line of their own in the plot by depth, best first.

    A system that differs from another one only in a smaller depth has the beginning of its line.
    """
    metric = report.metrics[0]
    found: list[SystemResult] = []
    for system in sorted(report.systems[1:], key=_depth, reverse=True):
        if not any(_begins(system, other, metric) for other in found):
            found.append(system)
    return sorted(found, key=lambda system: -system.metrics[metric])[:_SHOWN]


def _begins(system: SystemResult, other: SystemResult, metric: str) -> bool:
    """Return whether the line of a system by depth is the beginning of another one's."""
    assert system.curves is not None
    assert other.curves is not None
    if _without_depth(system) != _without_depth(other):
        return False
    line, longer = (
        dict(zip(curve.depth, curve.metrics[metric], strict=True))
        for curve in (system.curves.depth, other.curves.depth)
    )
    return all(longer.get(depth, value) == value for depth, value in line.items())


def _without_depth(system: SystemResult) -> tuple[object, ...]:
    return system.model, system.base_url, system.instruction, system.max_length


def _depth(system: SystemResult) -> float:
    return float("inf") if system.depth is None else system.depth


def _systems(report: Report, _: SystemResult, __: ScoreCurves, axes: Axes) -> None:
    metric = report.metrics[0]
    shown = report.systems[::-1]
    for row, system in enumerate(shown):
        color = COLORS["muted" if system is report.systems[0] else "blue"]
        axes.plot(system.intervals[metric], [row, row], color=color, linewidth=3, alpha=0.5)
        axes.plot([system.metrics[metric]], [row], "o", color=color, markersize=7)
        axes.annotate(
            f"{_short(system.name, _ROW_SPACE)}: {system.metrics[metric]:.3f}",
            (0, row),
            (2, 10),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=color,
            bbox=_BACKGROUND,
        )
    axes.axvline(report.systems[0].metrics[metric], color=COLORS["muted"], linestyle=":", zorder=0)
    axes.set(xlabel=f"{metric}, with 95 % intervals", ylim=(-0.5, len(shown) - 0.2), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, prune="lower"))


def _by_depth(report: Report, _: SystemResult, __: ScoreCurves, axes: Axes) -> None:
    metric = report.metrics[0]
    lines = []
    for number, system in enumerate(shown_systems(report)):
        assert system.curves is not None
        curve = system.curves.depth
        style = _STYLES[number // len(_SERIES)]
        color = COLORS[_SERIES[number % len(_SERIES)]]
        [line] = axes.plot(
            curve.depth, curve.metrics[metric], color=color, linestyle=style, marker="o", ms=4
        )
        lines.append((line, system.name))
    value = report.systems[0].metrics[metric]
    retriever = axes.axhline(value, color=COLORS["muted"], linestyle="--", linewidth=1.5)
    _by_candidates(axes, report.headroom.depth)
    axes.set(xlabel="candidates reranked", ylabel=metric)
    axes.margins(y=0.12)
    _mark(axes, _advised(report, "depth"))
    _legend(axes, [*lines, (retriever, "the retriever's order")])


def _by_top_n(report: Report, system: SystemResult, _: ScoreCurves, axes: Axes) -> None:
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
    _percent(axes)
    if after.tokens is not None:
        tokens = after.tokens
        top = axes.secondary_xaxis("top")
        top.set_xticks(ticks, [f"{tokens[min(n, len(tokens)) - 1]:,.0f}" for n in ticks])
        top.set_xlabel("tokens that the LLM reads")
        top.spines["top"].set_color(COLORS["line"])
    _mark(axes, _advised(report, "top_n") if system is report.best else None)
    _label_ends(axes, labels)


def _by_min_score(report: Report, system: SystemResult, curves: ScoreCurves, axes: Axes) -> None:
    curve = curves.min_score
    known = [(x, y) for x, y in zip(curve.min_score, curve.precision, strict=True) if y is not None]
    axes.plot(*zip(*known, strict=True), color=COLORS["blue"])
    axes.plot(curve.min_score, curve.recall, color=COLORS["orange"])
    _thresholds(report, system, axes)
    _label_ends(axes, [
        (known[-1][1], "precision", COLORS["blue"]),
        (curve.recall[-1], "recall", COLORS["orange"]),
    ])  # fmt: skip


def _scores(_: Report, __: SystemResult, curves: ScoreCurves, axes: Axes) -> None:
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
    _percent(axes)
    _legend(axes, lines[::-1])


def _reliability(_: Report, __: SystemResult, curves: ScoreCurves, axes: Axes) -> None:
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
    _percent(axes)
    _legend(axes, [(line, f"ECE {reliability.ece:.3f}"), (perfect, "perfectly calibrated, ECE 0")])


def _headroom(report: Report, system: SystemResult, _: ScoreCurves, axes: Axes) -> None:
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
    _by_candidates(axes, headroom.depth)
    axes.set(xlabel="candidates", ylabel=f"{metric}, recall", ylim=(0, 1.02))
    _label_ends(axes, labels)


def _nothing_relevant(
    report: Report, system: SystemResult, curves: ScoreCurves, axes: Axes
) -> None:
    curve = curves.nothing_relevant
    axes.plot(curve.min_score, curve.answered, color=COLORS["blue"])
    axes.plot(curve.min_score, curve.false_accept, color=COLORS["orange"], linestyle="--")
    _thresholds(report, system, axes)
    axes.set_ylabel("share of queries")
    _legend(axes, [
        (axes.lines[0], "a relevant document passes"),
        (axes.lines[1], "nothing relevant, yet one passes"),
    ])  # fmt: skip


PLOTS: Mapping[str, Callable[[Report, SystemResult, ScoreCurves, Axes], None]] = {
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


def _advised(report: Report, topic: str) -> object:
    """Return what the report recommends on a topic, None for nothing."""
    return next((a.value for a in report.recommendation if a.topic == topic), None)


def _thresholds(report: Report, system: SystemResult, axes: Axes) -> None:
    axes.set(xlabel="min_score", xlim=(0, 1), ylim=(0, 1.02))
    _percent(axes)
    _mark(axes, _advised(report, "min_score") if system is report.best else None)


def _by_candidates(axes: Axes, depths: Sequence[int]) -> None:
    """Make the x axis logarithmic, with ticks at some of the depths."""
    axes.set_xscale("log")
    ticks = [depth for depth in (1, 2, 5, 10, 20, 50, 100, 200, 500) if depth < depths[-1] / 1.3]
    ticks.append(depths[-1])
    axes.set_xticks(ticks, [f"{depth:,}" for depth in ticks])
    axes.set_xticks([], minor=True)


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _mark(axes: Axes, value: object) -> None:
    """Mark a recommended value of x."""
    if not isinstance(value, (int, float)):
        return
    axes.axvline(value, color=COLORS["purple"], linestyle="-.", linewidth=1.2)
    low, high = axes.get_xlim()
    middle = (low * high) ** 0.5 if axes.get_xscale() == "log" else (low + high) / 2
    right = value > middle
    axes.annotate(
        f"{value:g}",
        (value, 0.06),
        (-5 if right else 5, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=COLORS["purple"],
        weight="bold",
        horizontalalignment="right" if right else "left",
        bbox=_BACKGROUND,
    )


def _label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write labels at the right ends of lines: each with the line's last value and its color."""
    low, high = axes.get_ylim()
    ordered = sorted(labels)
    places = _spread([(value - low) / (high - low) for value, _, _ in ordered])
    for (_, text, color), place in zip(ordered, places, strict=True):
        axes.annotate(
            text,
            (1, place),
            (5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=color,
            verticalalignment="center",
            annotation_clip=False,
        )


def _spread(places: Sequence[float]) -> list[float]:
    """Return the places of labels, ascending, moved so that none covers another."""
    moved = list(places)
    for _ in range(50):
        for lower, upper in pairwise(range(len(moved))):
            overlap = _LABEL_GAP - (moved[upper] - moved[lower])
            if overlap > 0:
                moved[lower] -= overlap / 2
                moved[upper] += overlap / 2
    # Labels below the highest and above the lowest one keep their distance from it.
    highest = [_LABELS[1] - _LABEL_GAP * above for above in reversed(range(len(moved)))]
    lowest = [_LABELS[0] + _LABEL_GAP * below for below in range(len(moved))]
    return [
        max(low, min(place, high)) for low, place, high in zip(lowest, moved, highest, strict=True)
    ]


def _legend(axes: Axes, entries: Sequence[tuple[Artist, str]]) -> None:
    """Put a legend above the plot, one entry per line."""
    legend = axes.legend(
        [artist for artist, _ in entries],
        [str(number) for number in range(len(entries))],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderpad=0,
        labelspacing=0.3,
    )
    # The texts are set here because labels that begin with an underscore are left out otherwise.
    for label, (_, text) in zip(legend.get_texts(), entries, strict=True):
        label.set_text(_short(text, _LEGEND_SPACE))


def _short(text: str, space: float) -> str:
    """Return a name on one line, without its middle if it does not fit into a space in points."""
    text = escape_control(" ".join(text.split()))
    if _width(text) <= space:
        return text
    start = end = ""
    for first, last in zip(text, reversed(text), strict=True):
        if _width(f"{start}{first}…{last}{end}") > space:
            break
        start, end = start + first, last + end
    return f"{start}…{end}"


def _width(text: str) -> float:
    """Return about how wide a text is, in points."""
    narrow = [character for character in text if east_asian_width(character) not in "FW"]
    size = _STYLE["font.size"]
    font = FontProperties(size=size)
    width, *_ = TextToPath().get_text_width_height_descent("".join(narrow), font, ismath=False)
    return width + size * (len(text) - len(narrow))
