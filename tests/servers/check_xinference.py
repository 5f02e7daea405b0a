"""Xinference's engines against the model card's recipe: `make test-xinference`, not run by CI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qwen3_reranker import Reranker, RerankerWarning

from support.helpers import INSTRUCTION
from support.real_pairs import real_pairs
from support.servers.processes import MAX_LENGTH, Server
from support.servers.xinference_servers import GGUF_MODEL, MODEL, launch_models, xinference_server

TOLERANCE = 2e-3
PAIRS = real_pairs(3)
BRACES = ("What is {document}?", ["An apple.", "{document} is a placeholder."])


@pytest.fixture(scope="module")
def xinference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("xinference")
    with xinference_server(folder / "xinference.log") as server:
        launch_models(server, folder)
        yield server


def connect(server: Server, model: str) -> Reranker:
    return Reranker(model, base_url=server.url, tokenizer="demo", max_length=MAX_LENGTH)


@pytest.mark.parametrize("model", [MODEL, GGUF_MODEL])
def test_scores_are_those_of_the_recipe(xinference: Server, recipe: Reranker, model: str) -> None:
    with connect(xinference, model) as reranker:
        assert "Xinference" in reranker.describe()
        assert "dialect xinference " in reranker.describe()
        for query, documents in PAIRS:
            right = recipe.score(query, documents)
            assert reranker.score(query, documents) == pytest.approx(right, abs=TOLERANCE)
        query, documents = BRACES
        right = recipe.score(query.replace("{document}", "{ document}"), documents)
        assert reranker.score(query, documents) == pytest.approx(right, abs=TOLERANCE)


def test_sentence_transformers_takes_an_instruction(xinference: Server, recipe: Reranker) -> None:
    query, documents = PAIRS[0]
    with connect(xinference, MODEL) as reranker:
        scores = reranker.score(query, documents, instruction=INSTRUCTION)
    right = recipe.score(query, documents, instruction=INSTRUCTION)
    assert scores == pytest.approx(right, abs=TOLERANCE)


def test_llama_cpp_refuses_an_instruction(xinference: Server, recipe: Reranker) -> None:
    query, documents = PAIRS[0]
    with (
        connect(xinference, GGUF_MODEL) as reranker,
        pytest.warns(RerankerWarning, match="instruction"),
    ):
        scores = reranker.score(query, documents, instruction=INSTRUCTION)
    assert scores == pytest.approx(recipe.score(query, documents), abs=TOLERANCE)
