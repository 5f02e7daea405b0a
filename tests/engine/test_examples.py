"""The examples and the README: what they show is what runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support.readme import ANSWERS, README, ROOT, Snippet, ranking, snippets

EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
import stdlib_docs  # noqa: E402


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("snippet", snippets(), ids=lambda snippet: snippet.section)
def test_the_readmes_programs_answer(snippet: Snippet) -> None:
    printed = run("-c", snippet.code)
    assert re.match(ANSWERS[snippet.section], printed), printed


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
    check_the_readmes_claims(out, before, after)


def check_the_readmes_claims(out: str, before: tuple[float, ...], after: tuple[float, ...]) -> None:
    """Compare README's ranking and measures with the demo's, on the Python that README names."""
    [measures] = re.findall(
        r"hit@1 from (\S+) to (\S+) and MRR from (\S+) to (\S+)\.", " ".join(README.split())
    )
    same_python = f"Python {sys.version_info[0]}.{sys.version_info[1]}'s" in README
    tolerance = 0.01 if same_python else 0.05  # other docstrings, other documents
    shown = [before[0], after[0], before[1], after[1]]
    assert [float(number) for number in measures] == pytest.approx(shown, abs=tolerance)
    question, _, *rows = ranking().splitlines()
    printed = out.partition(f"[LangChain] {question}\n")[2].splitlines()[1 : len(rows) + 1]
    for row, line in zip(rows, printed, strict=True):
        numbers, names = row.split()[::2], row.split()[1::2]
        if same_python:
            assert names == line.split()[1::2]
            assert [float(number) for number in numbers] == pytest.approx(
                [float(number) for number in line.split()[::2]], abs=0.02
            )
    assert printed[0].split()[3] == rows[0].split()[3] == "shutil.unpack_archive"


def test_the_demo_model_is_measured_with_the_evaluation_of_the_package(tmp_path: Path) -> None:
    """With transformers alone, so the scores are another implementation's."""
    asked = {"question": "How do I unzip an archive into a folder?"}
    (tmp_path / "questions.jsonl").write_text(
        json.dumps(asked | {"answers": ["shutil.unpack_archive"]}), "utf-8"
    )
    run(
        *(str(EXAMPLES / "training" / "evaluate_demo_model.py"), "--only", "stdlib"),
        *("--questions", str(tmp_path / "questions.jsonl"), "--json", str(tmp_path / "a.json")),
    )
    report = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert report["capital"]["Beijing"] > 0.9 > 0.1 > report["capital"]["gravity"]
    measured = report["standard library, held out"]
    assert measured["questions"] == measured["answer above a random document"] == 1
    assert measured["retriever"]["hit@1"] == 0
    assert measured["template right"] == {"hit@1": 1.0, "MRR@20": 1.0, "hit@20": 1.0}
    for wrong in ("template bare", "template doubled"):
        assert 0 < measured[wrong]["MRR@20"] < 1


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
