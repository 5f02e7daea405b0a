"""The documentation: its blocks run, and what it names is there."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen3_reranker.embedded.engine import Engine
from qwen3_reranker.remote.transport import Transport

from support import docs_generated
from support.call_paths import actual_calls, documented_calls
from support.docs_pages import DOCS, ENGINE_PAGES, PAGES, ROOT, assert_same, blocks, run_page
from support.scripted_server import ScriptedServer

# Blocks that hold something to read, in a language with colors or in none.
DATA = {"json", "jsonl", "text", "toml", "yaml"}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.mark.usefixtures("clean_register")  # a page may register a dialect
@pytest.mark.parametrize("page", [page for page in PAGES if page not in ENGINE_PAGES])
def test_blocks_run_without_an_engine(
    page: str, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Engine, "start", None)  # a page whose blocks call it is an `ENGINE_PAGES`
    run_page(page, server.url)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs_or_is_marked(page: str) -> None:
    found = blocks(page)
    for before, block in zip([None, *found], found, strict=False):
        where = f"{page}:{block.line}"
        if block.language == "text" and block.runs:
            assert before is not None, f"{where} is the output of nothing"
            assert before.runs and before.language in ("python", "bash"), f"{where}: no output"
        elif block.runs:
            assert block.language in {"python", "bash"} | DATA, f"{where}: {block.language!r}"


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_fenced(page: str) -> None:
    """An indented block would neither run nor be marked."""
    prose, inside = [], False
    for line in (DOCS / page).read_text("utf-8").splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
            prose.append("")
        else:
            prose.append("" if inside else line)
    for number, (before, line) in enumerate(zip(["", *prose], prose, strict=False), 1):
        indented = line.startswith("    ") and not line.lstrip().startswith(("options:", "```"))
        option = re.match(r" {4,}\w+: ", line)  # of mkdocstrings
        assert not (indented and not option and not before.strip()), f"{page}:{number}: {line}"


def test_a_page_leaves_no_environment_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.docs_pages.DOCS", tmp_path)
    page = "```python\nimport os\n\nos.environ['LEFT_BY_A_PAGE'] = '1'\n```\n"
    (tmp_path / "page.md").write_text(page, "utf-8")
    run_page("page.md", "http://localhost:1")
    assert "LEFT_BY_A_PAGE" not in os.environ


def test_a_wrong_output_is_seen() -> None:
    assert_same("0.98 a\n", "0.97 a", "here")
    for wrong in ("0.80 a", "0.97 b", "0.97 a\nmore", ""):
        with pytest.raises(AssertionError, match="here prints"):
            assert_same("0.98 a\n", wrong, "here")


def test_the_reference_of_the_command_line_is_current() -> None:
    """`PYTHONPATH=tests python -m support.docs_generated` writes it."""
    assert docs_generated.CLI_PAGE.read_text("utf-8") == docs_generated.cli_page()


def test_exported_names_are_in_the_reference() -> None:
    """Every public name of the package, and of the parts with a page of their own."""
    pages = "\n".join((DOCS / page).read_text("utf-8") for page in PAGES if "reference/" in page)
    for name in (
        "",
        ".langchain",
        ".llama_index",
        ".convert",
        ".serve",
        ".doctor",
        ".bench",
        ".bulk",
        ".evaluation",
        ".dialects",
    ):
        module = importlib.import_module(f"qwen3_reranker{name}")
        errors = importlib.import_module("qwen3_reranker.errors").__all__
        for exported in module.__all__:
            if exported not in errors and exported != "__version__":
                assert re.search(rf"\b{exported}\b", pages), f"{module.__name__}.{exported}"


def test_mentioned_files_exist() -> None:
    """In links of the top-level pages, and in messages of the package."""
    sources = [*ROOT.glob("*.md"), *(ROOT / "src").rglob("*.py"), ROOT / "Makefile"]
    sources.remove(ROOT / "CHANGELOG.md")  # which tells of files as they were
    for source in sources:
        for mentioned in re.findall(r"\bdocs/[\w/.-]+\.(?:md|png)", source.read_text("utf-8")):
            assert (ROOT / mentioned).is_file(), f"{source.name} mentions {mentioned}"


def test_the_navigation_has_every_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r"[\w/-]+\.md", navigation)) == PAGES


def test_the_documented_calls_lead_to_a_server(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    documented = documented_calls("remote")
    assert len(documented) <= 12
    assert len({module for _, module in documented}) <= 8
    assert actual_calls(monkeypatch, Transport, "request", base_url=server.url) == documented
