"""The examples in docstrings print what they say."""

from __future__ import annotations

import doctest
from collections.abc import Iterator

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.evaluation import evaluate
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank


@pytest.fixture(scope="module", autouse=True)
def shared() -> Iterator[None]:
    """Keep the engine that all examples share, so that it starts once."""
    with Reranker("demo") as reranker:
        reranker.warm_up()
        yield


@pytest.mark.parametrize("documented", [Reranker, LangChainRerank, LlamaIndexRerank, evaluate])
def test_the_example_prints_what_it_says(documented: object) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(documented, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
