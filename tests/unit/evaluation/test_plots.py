"""The plots of a report, as notebooks draw them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from qwen3_reranker import InputError
from qwen3_reranker.evaluation import Report
from qwen3_reranker.evaluation.plots import PLOTS, shown_systems

from support.notebooks import run, shown
from support.reports import HOSTILE, empty_report, full_report, with_text


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def report() -> Report:
    return full_report()


def heights(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata()).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_makes_a_figure_or_draws_where_it_is_told(report: Report, name: str) -> None:
    mpl.get_backend()  # the first use chooses it
    before = mpl.rcParams.copy()
    made = report.plot(name)
    _, axes = plt.subplots()
    assert report.plot(name, axes=axes) is axes
    assert len(axes.lines) == len(made.lines) and axes.has_data()
    made.figure.canvas.draw()
    assert mpl.rcParams == before
    assert made.figure.get_facecolor() == (1, 1, 1, 1)  # for dark notebooks, as the text is dark


@pytest.mark.slow
def test_a_notebook_shows_the_plot_of_every_cell(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    load = "from qwen3_reranker.evaluation import Report; report = Report.load('report.json')"
    sources = [load, *(f"report.plot({name!r});" for name in ("systems", "depth", "top_n"))]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    run(notebook, tmp_path, limit=120)
    for cell in notebook.cells[1:]:
        assert shown(cell)[1] == [["image/png", "text/plain"]], cell.source


def test_the_lines_are_the_curves(report: Report) -> None:
    curves = report.best.curves
    assert curves is not None
    drawn = report.plot("min_score").lines
    assert heights(drawn[1]) == curves.min_score.recall
    drawn = report.plot("nothing_relevant").lines
    assert heights(drawn[0]) == curves.nothing_relevant.answered
    assert heights(drawn[1]) == curves.nothing_relevant.false_accept
    drawn = report.plot("headroom").lines
    assert heights(drawn[0]) == report.headroom.perfect[report.metrics[0]]


def test_the_recommended_values_are_marked(report: Report) -> None:
    advised = {advice.topic: advice.value for advice in report.recommendation}
    for name in ("depth", "top_n", "min_score"):
        texts = [text.get_text() for text in report.plot(name).texts]
        assert f"{advised[name]:g}" in texts


def test_another_system_is_drawn_without_the_recommended_value(report: Report) -> None:
    other = report.systems[-1]
    assert other is not report.best and other.curves is not None
    axes = report.plot("min_score", system=other.name)
    assert heights(axes.lines[1]) == other.curves.min_score.recall
    assert [text.get_text() for text in axes.texts] == ["precision", "recall"]


def test_systems_that_differ_in_depth_share_a_line(report: Report) -> None:
    assert [system.name for system in report.systems[1:]] == [
        "words, default instruction, depth 5",
        "words, default instruction, depth all",
        "words, instruction 1, depth all",
    ]
    assert [system.name for system in shown_systems(report)] == [
        "words, default instruction, depth all",
        "words, instruction 1, depth all",
    ]


@pytest.mark.parametrize("text", [HOSTILE, "_hidden", "$x$"])
@pytest.mark.parametrize("name", PLOTS)
def test_names_are_shown_as_they_are(report: Report, name: str, text: str) -> None:
    axes = with_text(report, text).plot(name)
    axes.figure.canvas.draw()
    legend = axes.get_legend()
    shown = [*axes.texts, *(legend.get_texts() if legend else [])]
    if name in ("systems", "depth"):
        assert any(label.get_text().startswith(text[:5]) for label in shown)
    assert not any(label.get_parse_math() for label in shown)


def test_labels_do_not_cover_each_other(report: Report) -> None:
    for name in ("min_score", "top_n", "headroom"):
        axes = report.plot(name)
        axes.figure.canvas.draw()
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()[0].isalpha()]
        for n, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:n])


@pytest.mark.parametrize(("name", "system", "message"), [
    ("pie", None, "there is no plot 'pie': give one of 'systems', 'depth'"),
    ("depth", "none", "no system is called 'none'"),
    ("scores", "retriever", "system='retriever' has no scores: give the name of a reranker"),
])  # fmt: skip
def test_wrong_usage(report: Report, name: str, system: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        report.plot(name, system=system)
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_to_show(name: str) -> None:
    if name == "systems":
        assert empty_report().plot(name).has_data()
        return
    with pytest.raises(InputError, match=f"the plot '{name}' has nothing to show"):
        empty_report().plot(name)
