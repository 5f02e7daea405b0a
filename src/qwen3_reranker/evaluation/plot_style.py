"""The style of plots: colors, labels that fit, and legends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from unicodedata import east_asian_width

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from qwen3_reranker.terminal import escape_control

__all__ = [
    "BACKGROUND",
    "COLORS",
    "add_legend",
    "label_ends",
    "mark_value",
    "shorten",
    "show_depths",
    "show_percent",
    "styled",
]

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
"""
The colors of the plots. Blue and orange can be told apart with any kind of color vision; what has
another color has another line style or a label too.
"""

BACKGROUND = {"facecolor": COLORS["card"], "edgecolor": "none", "pad": 1.5}
"""The background of a label that lies on lines."""

_LABEL_GAP = 0.09  # between labels at the ends of lines, as a share of the plot's height
_LABELS = (0.06, 0.96)  # where labels at the ends of lines touch no label of an axis
_FONT_SIZE = 11
_LEGEND_SPACE = 225  # points for a name
_STYLE: dict[str, Any] = {
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.grid": True,
    "figure.facecolor": "none",
    "font.size": _FONT_SIZE,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": _FONT_SIZE,
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
    rc: Any = {**_STYLE, **settings}
    with mpl.rc_context(rc):
        yield


def show_depths(axes: Axes, depths: Sequence[int]) -> None:
    """Make the x axis logarithmic, with ticks at some of the depths."""
    axes.set_xscale("log")
    ticks = [depth for depth in (1, 2, 5, 10, 20, 50, 100, 200, 500) if depth < depths[-1] / 1.3]
    ticks.append(depths[-1])
    axes.set_xticks(ticks, [f"{depth:,}" for depth in ticks])
    axes.set_xticks([], minor=True)


def show_percent(axes: Axes) -> None:
    """Write the values of the y axis in percent."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def mark_value(axes: Axes, value: object) -> None:
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
        bbox=BACKGROUND,
    )


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
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


def add_legend(axes: Axes, entries: Sequence[tuple[Artist, str]]) -> None:
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
        label.set_text(shorten(text, _LEGEND_SPACE))


def shorten(text: str, space: float) -> str:
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
    font = FontProperties(size=_FONT_SIZE)
    width, *_ = TextToPath().get_text_width_height_descent("".join(narrow), font, ismath=False)
    return float(width) + _FONT_SIZE * (len(text) - len(narrow))
