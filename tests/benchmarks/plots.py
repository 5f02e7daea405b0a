"""Draw plots of the committed results."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks import record
from benchmarks.report import NAMES

mpl.use("agg")
mpl.rcParams["figure.constrained_layout.use"] = True

from matplotlib import pyplot as plt  # noqa: E402  # the backend is chosen first

__all__ = ["draw"]

_OURS = ("reranker", "langchain", "llama_index", "transformers")


def draw(folder: Path) -> None:
    """Write embedded.png, remote.png, growth.png and streamed.png."""
    folder.mkdir(exist_ok=True)
    figures = {"embedded": (_embedded,), "remote": (_remote,), "growth": (_growth, _streamed)}
    for figure in (f for run, of_run in figures.items() if record.exists(run) for f in of_run):
        drawn = figure()
        drawn.savefig(folder / f"{figure.__name__[1:]}.png", dpi=110)
        plt.close(drawn)


def _embedded() -> Any:
    rates = record.load("embedded")["rates"]
    modes = [mode for mode in rates if "64" in rates[mode]]
    figure, axes = plt.subplots(figsize=(9, 3.5))
    for place, mode in enumerate(modes):
        found = rates[mode]["64"]
        median = statistics.median(found)
        axes.barh(place, median, color="tab:blue" if mode in _OURS else "tab:grey")
        axes.plot(found, [place] * len(found), ".", color="black", markersize=3)
        axes.annotate(f" {median:.1f}", (max(found), place), va="center", fontsize=8)
    axes.margins(x=0.1)
    axes.set_yticks(range(len(modes)), [_name(mode) for mode in modes])
    axes.set_xlabel("documents per second, 64 per query (dots: runs)")
    return figure


def _remote() -> Any:
    turns = record.load("remote")["turns"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    clients = list(dict.fromkeys(mode.partition("@")[0] for mode in turns if "@" in mode))
    for client in clients:
        of = {int(m.partition("@")[2]): o for m, o in turns.items() if m.startswith(f"{client}@")}
        rates = [statistics.median(outcome["rate"] for outcome in of[n]) for n in of]
        times = [statistics.median(outcome["cpu_us"] for outcome in of[n]) for n in of]
        left.plot(list(of), rates, "o-", label=_name(client))
        right.plot(list(of), times, "o-")
    for axes, label in ((left, "documents per second"), (right, "client CPU, µs per document")):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("concurrent requests")
        axes.set_ylabel(label)
    right.set_yscale("log")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def _name(mode: str) -> str:
    return NAMES[mode].replace("`", "")


def _growth() -> Any:
    seconds = record.load("growth")["seconds"]
    figure, all_axes = plt.subplots(1, len(seconds), figsize=(11, 3.5))
    for axes, (axis, by_mode) in zip(all_axes, seconds.items(), strict=True):
        for mode, points in by_mode.items():
            axes.plot([int(n) for n in points], list(points.values()), "o-", label=mode)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel(axis)
        axes.set_ylabel("seconds")
    all_axes[0].legend(fontsize=8)
    return figure


def _streamed() -> Any:
    samples = record.load("growth")["streamed"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    documents = [sample["documents"] for sample in samples]
    left.plot(documents, [sample["seconds"] for sample in samples], "o-")
    left.set_ylabel("seconds")
    for key in ("client_mib", "engine_mib"):
        right.plot(documents, [sample[key] for sample in samples], "o-", label=key)
    right.set_ylim(bottom=0)
    right.set_ylabel("resident MiB")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("documents through rerank_iter")
    return figure
