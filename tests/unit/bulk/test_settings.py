"""Which settings a later run must have in common with the run that it continues."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import InputError
from qwen3_reranker.bulk import rerank_files
from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.bulk.settings import bulk_options, score_settings

from support.checkpoints import copy_demo

Aggregate = Callable[[Sequence[float]], float]


def run(folder: Path, **options: Any) -> None:
    """Start or continue a run that has no rows, so that no engine is started."""
    if not (source := folder / "in.jsonl").exists():
        source.touch()
        # Of its own, because other tests may change the times of the demo's files by linking them.
        copy_demo(folder / "model")
    rerank_files(source, folder / "out", model=str(folder / "model"), **options)


def make_mean() -> Aggregate:
    """Return a function that has another address each time, as in another process."""

    def mean(scores: Sequence[float]) -> float:
        return sum(scores) / len(scores)

    return mean


def make_partial() -> Aggregate:
    return partial(make_mean())


class Quantile:
    """A function with settings, whose repr contains its address."""

    def __call__(self, scores: Sequence[float]) -> float:
        return sorted(scores)[len(scores) // 2]


@pytest.mark.parametrize("make", [make_mean, make_partial, Quantile, lambda: max])
def test_a_run_with_a_function_can_be_continued(
    tmp_path: Path, make: Callable[[], Aggregate]
) -> None:
    passages: dict[str, Any] = {"long_documents": "passages"}
    (first, second) = (make(), make())  # at the same time, so at different addresses
    run(tmp_path, aggregate=first, **passages)
    run(tmp_path, aggregate=second, **passages)
    with pytest.raises(InputError, match="created with aggregate=.* this run has aggregate=.*min"):
        run(tmp_path, aggregate=min, **passages)


@pytest.mark.parametrize(
    "changed",
    [
        {"engine_python": sys.executable},
        {"devices": ["cpu:0"]},
        {"engine_args": {"data_parallel_size": 2}},
        {"engine_args": {"hf_token": "hf_aBcDeFgHiJkLmNoP"}},
        {"timeout": 100.0, "quiet": True, "check": False, "cache": {}},
        {"engine": "auto", "instruction": None},
        {"long_documents": "cut", "aggregate": "max", "max_passages": None},
    ],
)
def test_what_changes_no_score_can_change(tmp_path: Path, changed: dict[str, Any]) -> None:
    run(tmp_path, **changed)
    run(tmp_path)
    run(tmp_path, **changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_length": 200}, "without max_length=, and this run has max_length=200"),
        (
            {"engine_args": {"dtype": "float32"}},
            "without engine_args=, and .* engine_args={'dtype'",
        ),
        ({"engine": "transformers"}, "model_files="),
    ],
)
def test_what_changes_scores_cannot_change(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    run(tmp_path)
    with pytest.raises(InputError, match=message):
        run(tmp_path, **changed)


def test_no_secret_is_stored() -> None:
    secret = "hf_aBcDeFgHiJkLmNoP"
    engine_args = {"hf_token": secret, "dtype": "float32"}
    options = bulk_options("demo", None, {"engine_args": engine_args})
    settings = score_settings(options, None, Columns())
    assert settings["engine_args"] == {"dtype": "float32"}
    assert settings["model_files"]
    assert secret not in json.dumps(settings)
    assert secret not in repr(options)
