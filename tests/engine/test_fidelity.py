"""The engine against the model card's recipe in transformers, on real questions and documents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.embedded.reference import TransformersScorer

from support.checkpoints import convert_demo
from support.helpers import EAGER
from support.real_pairs import real_pairs

TOLERANCE = 2e-3


PAIRS = real_pairs(20)


@pytest.fixture(scope="module")
def reference() -> Iterator[list[list[float]]]:
    with Reranker(scorer=TransformersScorer("demo", dtype="float32")) as reranker:
        yield [reranker.score(query, documents) for query, documents in PAIRS]


def check(reranker: Reranker, reference: list[list[float]]) -> None:
    assert sum(len(documents) for _, documents in PAIRS) == 200
    assert max(map(max, reference)) - min(map(min, reference)) > 0.5  # or closeness means nothing
    for (query, documents), right in zip(PAIRS, reference, strict=True):
        scores = reranker.score(query, documents)
        assert scores == pytest.approx(right, abs=TOLERANCE)
        for i, j in combinations(range(len(documents)), 2):
            if right[i] - right[j] > TOLERANCE:
                assert scores[i] > scores[j]


def test_the_original_checkpoint(reranker: Reranker, reference: list[list[float]]) -> None:
    check(reranker, reference)


@pytest.mark.parametrize("labels", [1, 2])
def test_converted_checkpoints(labels: int, tmp_path: Path, reference: list[list[float]]) -> None:
    model = convert_demo(tmp_path / "converted", labels)
    with Reranker(str(model), engine_args=EAGER) as reranker:
        check(reranker, reference)


def test_the_compiled_engine_and_prompts_of_several_steps(reference: list[list[float]]) -> None:
    """As it starts by default on a CPU; its steps of 2048 tokens cut the long prompts up."""
    texts = [text for _, documents in PAIRS for text in documents]
    long = ["\n".join(texts[start : start + 100]) for start in range(0, 101, 25)]
    query = PAIRS[0][0]
    with Reranker("demo", engine_args={"dtype": "float32"}) as reranker:
        check(reranker, reference)
        assert min(len(reranker.prompt(query, text).ids) for text in long) > 2 * 2048
        scores = reranker.score(query, [*long, *texts[:20]])
    with Reranker(scorer=TransformersScorer("demo", dtype="float32", batch_size=1)) as right:
        assert scores == pytest.approx(right.score(query, [*long, *texts[:20]]), abs=TOLERANCE)


def test_truncation_agrees() -> None:
    long = "Return a list of the words. " * 40
    with (
        Reranker(scorer=TransformersScorer("demo", dtype="float32", max_length=200)) as one,
        Reranker("demo", max_length=200, engine_args=EAGER) as other,
    ):
        query, documents = "split a string into words", [long, "short"]
        right = one.rerank(query, documents)
        got = other.rerank(query, documents)
    assert [(h.index, h.truncated) for h in got] == [(h.index, h.truncated) for h in right]
    assert [h.score for h in got] == pytest.approx([h.score for h in right], abs=TOLERANCE)
    assert any(h.truncated for h in got)
