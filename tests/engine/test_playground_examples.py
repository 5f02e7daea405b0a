"""The examples of the playground with the demo model: it ranks them right and clearly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.playground.examples import EXAMPLES
from qwen3_reranker.playground.models import Models
from qwen3_reranker.playground.progress import Progress
from qwen3_reranker.playground.ranking import rank

FIRST = {
    "Delete a folder": "shutil.rmtree(path)",
    "Parse a date": "datetime.datetime.strptime(",
    "Two instructions": "ZipFile.extractall(",
    "A long document": "ZipFile.extractall(",
}


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    # This engine gives the same scores as vLLM, and starts within a second.
    with (
        Reranker("demo", engine="transformers") as cut,
        Reranker("demo", engine="transformers", long_documents="passages") as passages,
    ):
        yield Models.of([cut, passages])


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_first_document_is_the_right_one_by_a_margin(models: Models, name: str) -> None:
    result = await rank(EXAMPLES[name], models, Progress())
    for ranked in result.rankings:
        first, second = ranked.hits[:2]
        assert first.passage is None or first.passage.count > 1
        start, end = (first.passage.start, first.passage.end) if first.passage else (0, None)
        assert FIRST[name] in first.text[start:end]
        assert first.score > 0.5 and first.score - second.score > 0.05


def test_each_example_has_an_expectation() -> None:
    assert FIRST.keys() == EXAMPLES.keys()
