"""The examples in the constructors' docstrings print what they say."""

from __future__ import annotations

import doctest

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank


@pytest.mark.parametrize("documented", [Reranker, LangChainRerank, LlamaIndexRerank])
def test_the_example_prints_what_it_says(documented: type) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(documented, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
