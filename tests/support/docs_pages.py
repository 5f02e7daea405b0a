"""The pages of the documentation, their fenced blocks, and how the blocks are run."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

from support.spans import unconfigured

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
# Pages whose blocks start an embedded engine or load torch; the blocks of all others must not.
ENGINE_PAGES = [
    "index.md",
    "tutorial.md",
    *(
        f"how-to/{name}.md"
        for name in (
            "command-line",
            "convert",
            "evaluate",
            "langchain",
            "llama-index",
            "long-documents",
            "many-queries",
            "monitoring",
            "selection",
            "tracing",
        )
    ),
]
EXAMPLE_SERVER = "http://localhost:8000"
# Scores depend a little on the processor and on the batch.
TOLERANCE = 0.05

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,}) *(?P<info>[^`]*)$")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Block:
    """
    A fenced block.

    Attributes:
        line: The line of its opening fence, from 1.
        language: Its language; "" if it has none.
        runs: Whether it is not marked as `.no-run`.
        text: What it holds, without the indentation of its fence.
    """

    line: int
    language: str
    runs: bool
    text: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    opening: re.Match[str] | None = None
    inside: list[str] = []
    start = 0
    for number, line in enumerate((DOCS / page).read_text("utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if opening is None:
            if match:
                opening, inside, start = match, [], number
        elif match and match["ticks"] == opening["ticks"] and not match["info"]:
            words = opening["info"].strip("{} ").replace(".", " ").split()
            text = "\n".join(line.removeprefix(opening["indent"]) for line in inside)
            language = words[0] if words else ""
            found.append(Block(start, language, "no-run" not in words, text))
            opening = None
        else:
            inside.append(line)
    assert opening is None, f"{page}:{start}: a block without an end"
    return found


def run_page(page: str, server: str) -> None:
    """
    Run the Python and shell blocks of a page, and compare what they print with the page.

    The Python blocks share one namespace. `server` takes the place of the example server's URL.
    Environment variables that a block sets are gone after the page.
    """
    module = ModuleType("documentation")
    sys.modules[module.__name__] = module  # classes look up their annotations there
    with unconfigured(), mock.patch.dict(os.environ):
        for block, expected in _with_output(page):
            code = block.text.replace(EXAMPLE_SERVER, server)
            where = f"{page}:{block.line}"
            printed = _shell(code) if block.language == "bash" else _python(code, module, where)
            if expected is not None:
                assert_same(printed, expected, where)


def assert_same(printed: str, expected: str, where: str) -> None:
    """Fail unless two outputs are equal, except that numbers may differ by `TOLERANCE`."""
    ours, theirs = (
        [line.rstrip() for line in text.strip().splitlines()] for text in (printed, expected)
    )
    message = f"{where} prints\n{printed}\nbut the page shows\n{expected}"
    assert [_NUMBER.sub("#", line) for line in ours] == [
        _NUMBER.sub("#", line) for line in theirs
    ], message
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True):
            assert abs(float(a) - float(b)) <= TOLERANCE, message


def _with_output(page: str) -> Iterator[tuple[Block, str | None]]:
    """Yield each block that runs, with the `text` block after it, if there is one."""
    found = blocks(page)
    for block, after in zip(found, [*found[1:], None], strict=False):
        if block.runs and block.language in ("python", "bash"):
            shows = after is not None and after.runs and after.language == "text"
            yield block, after.text if after is not None and shows else None


def _python(code: str, module: ModuleType, where: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, where, "exec"), module.__dict__)
    return out.getvalue()


def _shell(code: str) -> str:
    # The command of the interpreter that runs the tests comes first.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{code}\nexits with {done.returncode}:\n{done.stderr}"
    return done.stdout
