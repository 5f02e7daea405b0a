"""Arguments of the reranker's methods that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qwen3_reranker import InputError, Reranker

from support.helpers import AnsweringScorer

CALLS: dict[str, Callable[..., Any]] = {
    "rerank": lambda reranker, **wrong: reranker.rerank("q", ["a"], **wrong),
    "score": lambda reranker, **wrong: reranker.score("q", ["a"], **wrong),
    "no documents": lambda reranker, **wrong: reranker.score("q", [], **wrong),
    "rerank_many": lambda reranker, **wrong: reranker.rerank_many([("q", ["a"])], **wrong),
    "rerank_iter": lambda reranker, **wrong: list(reranker.rerank_iter([("q", ["a"])], **wrong)),
    "prompt": lambda reranker, **wrong: reranker.prompt("q", "a", **wrong),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_instruction_that_is_not_a_str_is_rejected(call: str) -> None:
    reranker = Reranker(scorer=AnsweringScorer(0.5), on_error="keep_order")
    with pytest.raises(InputError, match="instruction=3: give a str"):
        CALLS[call](reranker, instruction=3)
    reranker.instruction = 3  # type: ignore[assignment]
    with pytest.raises(InputError, match="instruction=3: give a str"):
        CALLS[call](reranker)


def test_a_document_that_is_not_a_str_has_no_prompt() -> None:
    reranker = Reranker(scorer=AnsweringScorer(0.5))
    with pytest.raises(InputError, match="document 0 is a int, not a str: 3"):
        reranker.prompt("q", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("base_url", [None, "http://localhost:9"])
@pytest.mark.parametrize("model", ["", " \n"])
def test_a_blank_model_is_refused(model: str, base_url: str | None) -> None:
    with pytest.raises(InputError) as refused:
        Reranker(model, base_url=base_url)
    assert str(refused.value).startswith(f"model={model!r}: give ")
