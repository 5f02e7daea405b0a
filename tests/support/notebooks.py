"""
The notebooks of examples/notebooks, and how they are executed.

    PYTHONPATH=tests:src python -m support.notebooks [NAME...]    # executes and saves them

A saved notebook holds no times, no full version of Python and nothing from standard error, so that
executing it again changes only the outputs that differ.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The running Python. The notebooks search its docstrings, so their outputs depend on it."""
LIMIT = 540
"""
The most seconds that a notebook may take in a test: three times as many as the docs promise for two
cores, because other programs keep the cores of a test machine busy.
"""


def read(name: str) -> Any:
    """Return the notebook as it is saved."""
    return nbformat.read(_path(name), as_version=4)  # type: ignore[no-untyped-call]


def execute(name: str, *, limit: float = LIMIT) -> Any:
    """
    Execute a notebook of `FOLDER`, and return it with the new outputs.

    Args:
        name: The name of its file, without the suffix.
        limit: The most seconds that all of its cells together may take.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised an error.
        nbclient.exceptions.CellTimeoutError: The notebook took too long.
    """
    notebook = read(name)
    run(notebook, FOLDER, limit=limit)
    return strip(notebook)


def run(notebook: Any, folder: Path, *, limit: float) -> None:
    """
    Execute a notebook in place, in a kernel of this Python.

    Args:
        notebook: The notebook.
        folder: The working directory.
        limit: The most seconds that all of its cells together may take.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised an error.
        nbclient.exceptions.CellTimeoutError: The notebook took too long.
    """
    end = time.monotonic() + limit
    # Without folders of kernels, "python3" is this interpreter, whatever a user has installed.
    kernels = KernelSpecManager(kernel_dirs=[])
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels),
        # Never 0, which would mean that there is no limit.
        timeout_func=lambda _: max(end - time.monotonic(), 0.01),
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    client.execute(
        cleanup_kc=True,  # end the kernel, and with it the engine
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)},
    )


def strip(notebook: Any) -> Any:
    """Remove what differs from run to run; the text that a cell prints becomes one output."""
    notebook.metadata = nbformat.from_dict(  # type: ignore[no-untyped-call]
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "version": PYTHON},
        }
    )
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = _merged(cell.outputs)
    return notebook


def _merged(outputs: list[Any]) -> list[Any]:
    printed = "".join(
        output.text
        for output in outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    others = [output for output in outputs if output.output_type != "stream"]
    if not printed:
        return others
    stream = nbformat.v4.new_output("stream", name="stdout", text=printed)  # type: ignore[no-untyped-call]
    return [stream, *others]


def shown(cell: Any) -> tuple[str, list[list[str]]]:
    """Return a cell's text outputs, and the sorted media types of all its other outputs."""
    texts, media = [], []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            texts.append(output.text)
        else:
            texts.append(output.data.get("text/plain", ""))
            media.append(sorted(output.data))
    return "\n".join(texts), media


def serialize(notebook: Any) -> str:
    """Return the text of a notebook's file."""
    return str(nbformat.writes(notebook)) + "\n"  # type: ignore[no-untyped-call]


def text(name: str) -> str:
    """Return the text of the saved notebook's file."""
    return _path(name).read_text("utf-8")


def _path(name: str) -> Path:
    return FOLDER / f"{name}.ipynb"


def main(names: list[str]) -> None:
    """Execute notebooks, by default all, and save them."""
    for name in names or NOTEBOOKS:
        started = time.monotonic()
        _path(name).write_text(serialize(execute(name)), "utf-8")
        print(f"saved {_path(name)} after {time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    main(sys.argv[1:])
