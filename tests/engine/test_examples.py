"""The examples and the README: what they show is what runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_reranker.model.checkpoint import DEMO_MODEL

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text("utf-8")
SERVERS = (ROOT / "docs" / "servers.md").read_text("utf-8")
sys.path.insert(0, str(EXAMPLES))
import stdlib_docs  # noqa: E402

QUICKSTARTS = ["langchain_quickstart.py", "llama_index_quickstart.py"]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", QUICKSTARTS)
def test_quickstarts(name: str) -> None:
    lines = run(str(EXAMPLES / name)).splitlines()
    assert len(lines) == 3
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    names = {doc.name for doc in stdlib_docs.load()}
    assert all(line.split()[1] in names for line in lines)
    assert len((EXAMPLES / name).read_text().splitlines()) <= 25


@pytest.mark.parametrize("name", QUICKSTARTS)
def test_the_readme_shows_the_quickstarts(name: str) -> None:
    code = (EXAMPLES / name).read_text().partition("\n\n")[2]
    assert f"```python\n{code}```" in README


def test_the_readmes_plain_example_runs() -> None:
    [code] = [
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if block.startswith("from qwen3_reranker import Reranker")
    ]
    out = run("-c", code)
    assert re.match(r"0 0\.\d+ The capital of China is Beijing\. False\n", out)
    assert "<Query>: What is the capital of China?\n<Document>: The capital" in out


def test_the_demo_shows_both_frameworks_and_measures() -> None:
    out = run(str(EXAMPLES / "demo.py"))
    for framework in ("[LangChain]", "[LlamaIndex]"):
        assert out.count(framework) == 4
    before, after = (
        tuple(map(float, re.search(rf"{row}.*?([\d.]+) +([\d.]+)$", out, re.MULTILINE).groups()))  # type: ignore[union-attr]
        for row in ("as BM25 found them", "reranked")
    )
    assert before[0] > 0.2 and before[1] > 0.3
    assert after[0] > 0 and after[1] > 0
    assert 'model="Qwen/Qwen3-Reranker-0.6B"' in out


def questions(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_the_questions_and_their_split_by_module() -> None:
    held_out = questions(EXAMPLES / "held_out_questions.jsonl")
    training = questions(EXAMPLES / "training" / "questions.jsonl")
    assert len(held_out) >= 200
    assert len(training) >= 1000
    modules = {doc.name: doc.module.split(".")[0] for doc in stdlib_docs.load()}

    def used(rows: list[dict[str, object]]) -> set[str]:
        # By the best answer; a further one may lie in another module.
        return {modules.get(row["answers"][0], "") for row in rows} - {""}  # type: ignore[index]

    assert not used(held_out) & used(training)
    assert len({row["question"] for row in held_out + training}) == len(held_out) + len(training)


def test_the_demo_models_size_and_files() -> None:
    files = {path.name: path.stat().st_size for path in DEMO_MODEL.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert sum(files.values()) < 12_000_000


def test_the_docs_own_dialect_is_registered_and_spoken() -> None:
    [code] = [
        block
        for block in re.findall(r"```python\n(.*?)```", SERVERS, re.DOTALL)
        if "@register" in block
    ]
    code += '\nanswer = {"ranked": [{"index": 1, "probability": 0.2}, {"index": 0, "probability": 0.9}]}'
    code += "\nprint(Acme().parse(answer, 2), reranker)"
    assert run("-c", code).startswith("[0.9, 0.2] ")
