"""How notebooks are executed in tests."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellTimeoutError

from support.notebooks import run


@pytest.mark.slow
def test_the_limit_is_that_of_the_whole_notebook(tmp_path: Path) -> None:
    """Each of the cells is quick enough, but not all of them together."""
    cells = [nbformat.v4.new_code_cell("import time; time.sleep(0.2)") for _ in range(30)]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    with pytest.raises(CellTimeoutError):
        run(notebook, tmp_path, limit=3)
