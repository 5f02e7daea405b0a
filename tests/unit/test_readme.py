"""README.md and the files beside it: what can be checked without running an engine."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from qwen3_reranker import dialects

from support.readme import README, ROOT, Snippet, snippets

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PAGES = ["README.md", "CONTRIBUTING.md"]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def imported(code: str) -> set[str]:
    """Return the modules that a program imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    return modules


def undeclared(code: str, extras: tuple[str, ...]) -> set[str]:
    """Return the modules that none of the declared distributions contains."""
    wanted = [*PROJECT["dependencies"]]
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    files: set[Path] = set()
    for requirement in wanted:
        distribution = importlib.metadata.distribution(Requirement(requirement).name)
        files |= {Path(str(file.locate())) for file in distribution.files or ()}
    missing = set()
    for module in imported(code):
        if module.partition(".")[0] in {"qwen3_reranker", *sys.stdlib_module_names}:
            continue
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or Path(spec.origin) not in files:
            missing.add(module)
    return missing


def test_there_is_a_snippet_for_each_framework_and_one_without() -> None:
    assert [snippet.extras for snippet in snippets()] == [("langchain",), ("llama-index",), ()]
    assert len(re.findall(r"^    pip install", README, re.MULTILINE)) == 3


@pytest.mark.parametrize("snippet", snippets(), ids=lambda snippet: snippet.section)
def test_a_snippet_imports_only_what_its_command_installs(snippet: Snippet) -> None:
    assert undeclared(snippet.code, snippet.extras) == set()


@pytest.mark.parametrize("module", ["langchain_classic.retrievers", "llama_index.core", "bm25s"])
def test_an_import_that_no_extra_declares_is_seen(module: str) -> None:
    assert undeclared(f"from {module} import x", ("langchain",)) == {module}


@pytest.mark.parametrize("snippet", snippets()[:2], ids=lambda snippet: snippet.section)
def test_the_quickstarts_have_eight_lines_and_are_examples(snippet: Snippet) -> None:
    assert len([line for line in snippet.code.splitlines() if line]) <= 8
    name = snippet.extras[0].replace("-", "_")
    example = (ROOT / "examples" / f"{name}_quickstart.py").read_text("utf-8")
    assert example.partition("\n\n")[2] == snippet.code


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = LINK.findall((ROOT / page).read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_no_link_on_the_package_index_is_dead() -> None:
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    assert [fragment["path"] for fragment in hook["fragments"]] == ["README.md"]
    page = README
    for change in hook["substitutions"]:
        page = re.sub(change["pattern"], change["replacement"], page)
    assert LINK.findall(page) == []
    assert "hands the best 5 with their scores to your LLM" in page
    assert page.count("img.shields.io") == README.count("img.shields.io") == 3


def test_the_badges_are_true() -> None:
    [versions] = re.findall(r"!\[Python (.*?)\]", README)
    prefix = "Programming Language :: Python :: 3."
    declared = [
        text.rpartition(" ")[2] for text in PROJECT["classifiers"] if text.startswith(prefix)
    ]
    assert re.findall(r"3\.\d+", versions) == declared
    assert re.findall(r"badge/python-(\S+)-blue", README) == ["_%7C_".join(declared)]
    assert re.findall(r"badge/license-(\S+)-blue", README) == [
        PROJECT["license"].replace("-", "--")
    ]
    assert "badge/types-mypy_strict-" in README
    assert PYPROJECT["tool"]["mypy"]["strict"] is True


def test_the_number_of_dialects_is_that_of_the_register() -> None:
    pages = README + (ROOT / "docs/explanation/comparison.md").read_text("utf-8")
    numbers = re.findall(r"(?<=\()\d+(?= dialects)|(?<=dialects \| )\d+", pages)
    # Other tests may register dialects of their own.
    ours = [d for d in dialects.dialects() if type(d).__module__.startswith("qwen3_reranker.")]
    assert [int(number) for number in numbers] == [len(ours)] * 2


def test_uv_reads_the_overrides_that_ship() -> None:
    lines = (ROOT / "cpu-overrides.txt").read_text("utf-8").splitlines()
    overrides = [line for line in lines if not line.startswith("#")]
    assert overrides == PYPROJECT["tool"]["uv"]["override-dependencies"]


def test_the_picture_follows_the_readers_colors() -> None:
    picture = (ROOT / "docs/assets/overview.svg").read_text("utf-8")
    assert "prefers-color-scheme: dark" in picture
    assert 'class="panel"' in picture


def test_make_help_lists_each_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    documented = re.findall(r"^([\w%.-]+):.*?## \S", makefile, re.MULTILINE)
    assert set(" ".join(phony).split()) <= set(documented)
    shown = " ".join(
        re.findall(r"(?:^    |`|run: )(make [a-z -]+)", _workflows() + README, re.MULTILINE)
    )
    assert set(shown.split()) - {"make"} <= set(documented)


def _workflows() -> str:
    return "\n".join(
        path.read_text("utf-8") for path in sorted((ROOT / ".github/workflows").iterdir())
    )


@pytest.mark.parametrize(
    "path",
    [
        ".pre-commit-config.yaml",
        "CITATION.cff",
        *(str(path.relative_to(ROOT)) for path in sorted((ROOT / ".github").rglob("*.yml"))),
    ],
)
def test_the_files_of_other_tools_are_yaml(path: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / path).read_text("utf-8")), dict)


def test_publishing_needs_no_token() -> None:
    publish = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text("utf-8"))
    assert publish["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in _workflows()
