"""The notebooks: they run, and show what comes out."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("wordllama", reason="the notebooks need the dependency group notebooks")

from support.docs_pages import assert_same
from support.notebooks import NOTEBOOKS, PYTHON, execute, read, serialize, shown, strip, text


def check(executed: Any, saved: Any, name: str) -> None:
    """Fail unless two versions of a notebook show the same, within the tolerance of the docs."""
    for ours, theirs in zip(executed.cells, saved.cells, strict=True):
        (printed, media), (expected, saved_media) = shown(ours), shown(theirs)
        where = f"{name}.ipynb, cell {ours.id}"
        assert_same(printed, expected, where)
        assert media == saved_media, f"{where}: other media types than saved"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_saved_outputs_are_what_comes_out(name: str) -> None:
    executed, saved = execute(name), read(name)
    if saved.metadata.language_info.version == PYTHON:  # others have other docstrings
        check(executed, saved, name)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_file_holds_nothing_that_differs_from_run_to_run(name: str) -> None:
    saved = read(name)
    version = saved.metadata.language_info.version
    stripped = strip(read(name))
    stripped.metadata.language_info.version = version
    assert text(name) == serialize(stripped)
    counts = [cell.execution_count for cell in saved.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "not saved by support.notebooks"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_first_cell_names_the_line_to_change(name: str) -> None:
    first, *others = read(name).cells
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for part in ("pip install", "Qwen/Qwen3-Reranker-0.6B", '`MODEL = "demo"`'):
        assert part in first.source
    assert 'MODEL = "demo"' in "\n".join(cell.source for cell in others)
