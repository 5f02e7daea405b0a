"""
Draw the latencies of a load test as SVG.

The picture needs no library, follows the reader's light or dark theme, and has a size that does not
depend on the number of requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from qwen3_reranker.bench.samples import Sample, percentile
from qwen3_reranker.errors import InputError

__all__ = ["draw"]

_WIDTH, _HEIGHT = 720, 560
_LEFT, _RIGHT = 70, 690
_BARS = 60
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 }
.title { font-size: 14px; font-weight: 600; fill: #222 }
.axis { stroke: #999; fill: none } .grid { stroke: #ddd }
.bar { fill: #7aa6da } .band { fill: #7aa6da; opacity: .35 }
.line { stroke: #1f5fa8; stroke-width: 1.8; fill: none }
.mark { stroke: #c2571a; stroke-dasharray: 4 3 } .failed { fill: #c62828 }
@media (prefers-color-scheme: dark) {
  svg { background: #1b1d23 } text { fill: #bbb } .title { fill: #eee }
  .axis { stroke: #777 } .grid { stroke: #333 } .line { stroke: #8ec1ff }
}
"""

_SHARES = [(share / 100, f"{share} %") for share in (0, 25, 50, 75, 100)]

Scale = Callable[[float], float]
"""Returns the coordinate of a value."""

Ticks = Sequence[tuple[float, str]]
"""Values on an axis, with their labels."""


def draw(samples: Sequence[Sample], duration: float) -> str:
    """
    Return a picture of the latencies: their distribution, and their course over time.

    Args:
        samples: The requests.
        duration: The seconds that the test took.

    Raises:
        InputError: No request was successful.
    """
    good = [sample for sample in samples if sample.error is None]
    if not good:
        raise InputError("there is nothing to draw: no request was successful")
    failed = [sample.start + sample.latency for sample in samples if sample.error is not None]
    parts = [*_distribution(good), *_course(good, failed, duration)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="Latency of {len(good)} requests">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _distribution(good: Sequence[Sample]) -> Iterable[str]:
    """Draw a histogram of the latencies, their cumulative share, and three percentiles."""
    top, bottom = 50, 245
    latencies = sorted(sample.latency * 1000 for sample in good)
    end = max(latencies[-1], 1e-3)
    x, y = _scale(end, _LEFT, _RIGHT), _scale(1, bottom, top)
    counts = [0] * _BARS
    for latency in latencies:
        counts[min(int(latency / end * _BARS), _BARS - 1)] += 1
    yield _text(_LEFT, 22, "Latency: histogram, and share of requests below", "title")
    yield from _grid(x, y, [(tick, f"{tick:g} ms") for tick in _ticks(end)], _SHARES)
    for index, count in enumerate(counts):
        if count:
            low, high = x(index * end / _BARS), x((index + 1) * end / _BARS)
            edge = y(count / max(counts))
            yield (
                f'<rect class="bar" x="{low:.1f}" y="{edge:.1f}" '
                f'width="{high - low - 1:.1f}" height="{bottom - edge:.1f}"/>'
            )
    shares = [(percent / 200, percentile(latencies, percent / 2) or 0) for percent in range(201)]
    yield _line("line", [(x(value), y(share)) for share, value in shares])
    marks = [(percent, percentile(latencies, percent) or 0) for percent in (50, 90, 99)]
    for _, value in marks:
        across = f"{x(value):.1f}"
        yield f'<line class="mark" x1="{across}" x2="{across}" y1="{top}" y2="{bottom}"/>'
    shown = ", ".join(f"P{percent} {value:.0f} ms" for percent, value in marks)
    yield _text(_RIGHT, top - 8, f"dashed: {shown}", anchor="end")


def _course(good: Sequence[Sample], failed: Sequence[float], duration: float) -> Iterable[str]:
    """Draw the median latency and the range by the time at which requests were sent."""
    top, bottom = 320, 515
    end = max(duration, 1e-6)
    slots: list[list[float]] = [[] for _ in range(_BARS)]
    for sample in good:
        slot = int(sample.start / end * _BARS)
        slots[max(0, min(slot, _BARS - 1))].append(sample.latency * 1000)
    highest = max(*map(max, filter(None, slots)), 1e-3)
    x, y = _scale(end, _LEFT, _RIGHT), _scale(highest, bottom, top)
    title = "Latency by the time of sending: median, and range"
    if failed:
        title += f"; {len(failed)} failed (red)"
    yield _text(_LEFT, top - 18, title, "title")
    yield from _grid(
        x,
        y,
        [(tick, f"{tick:g} s") for tick in _ticks(end)],
        [(tick, f"{tick:g} ms") for tick in _ticks(highest)],
    )
    used = [((index + 0.5) * end / _BARS, sorted(slot)) for index, slot in enumerate(slots) if slot]
    upper = [(x(time), y(slot[-1])) for time, slot in used]
    lower = [(x(time), y(slot[0])) for time, slot in reversed(used)]
    yield f'<polygon class="band" points="{_points(upper + lower)}"/>'
    yield _line("line", [(x(time), y(percentile(slot, 50) or 0)) for time, slot in used])
    for slot in sorted({int(time / end * 200) for time in failed}):
        yield f'<circle class="failed" cx="{x(min(slot / 200, 1) * end):.1f}" cy="{top}" r="3"/>'


def _grid(x: Scale, y: Scale, across: Ticks, up: Ticks) -> Iterable[str]:
    """Draw the axes and their labels."""
    for value, label in up:
        height = y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
        yield _text(_LEFT - 6, height + 4, label, anchor="end")
    for value, label in across:
        yield _text(x(value), y(0) + 18, label, anchor="middle")
    yield f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(0)}" y2="{y(0)}"/>'


def _scale(highest: float, start: float, end: float) -> Scale:
    return lambda value: start + value / highest * (end - start)


def _ticks(end: float) -> list[float]:
    """Return three to six multiples of a round number, from 0 to `end` at most."""
    unit = 10.0 ** math.floor(math.log10(end))
    step = next(unit * part for part in (0.2, 0.5, 1, 2) if end / (unit * part) < 6)
    return [step * index for index in range(int(end / step) + 1)]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text{css} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _line(kind: str, points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="{kind}" points="{_points(points)}"/>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
