"""Comparing scores: what is refused, and which files are compared. Scores are in tests/engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import CheckpointError, InputError
from qwen3_reranker.convert import convert, verify

from support.checkpoints import cache_on_hub, copy_demo
from support.helpers import SECRET


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert("demo", tmp_path_factory.mktemp("converted") / "target").folder


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"pairs": []}, "pairs is empty"),
        ({"pairs": [("q", ["d"]), ("r", [])]}, "'r' has no documents"),
        ({"pairs": [("q", "d")]}, "documents of 'q' are a str"),
        ({"pairs": [("q", ["d", " \n"])]}, "document of 'q' is blank"),
        ({"pairs": [("q", ["d", None])]}, "document of 'q' is a NoneType"),
        ({"pairs": [(" ", ["d"])]}, "query is blank"),
        ({"dtype": "fp32"}, "dtype='fp32'"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"dtype": None}, "dtype=None"),
        ({"token": f"{SECRET}\n"}, "access token"),
    ],
)
def test_arguments_that_cannot_be_used(
    converted: Path, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        verify("nobody/no-such-model", converted, **arguments)


def test_the_revision_is_that_of_the_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cache_on_hub(tmp_path / "hub", monkeypatch)
    repository = tmp_path / "hub" / "models--somebody--their-reranker"
    (repository / "refs" / "v1").write_text("0123abcd")
    (repository / "refs" / "main").write_text("4567cdef")
    copy_demo(repository / "snapshots" / "4567cdef", architectures=["Qwen2ForCausalLM"])
    target = convert(name, tmp_path / "target", revision="v1").folder
    assert verify(name, target, revision="v1", pairs=[("q", ["d"])]).difference < 1e-5
    with pytest.raises(CheckpointError, match="not a Qwen3 reranker"):
        verify(name, target)
