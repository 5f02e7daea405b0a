"""The LlamaIndex postprocessor by itself: its settings, copies, closing, what it shows."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore
from pydantic import ValidationError

from qwen3_reranker import DEFAULT_MODEL, ClosedError, Reranker
from qwen3_reranker.llama_index import Qwen3Rerank

from support.helpers import INSTRUCTION, SECRET, SETTINGS
from support.llama_index_helpers import QUERY, make_nodes


@pytest.fixture
def nodes() -> list[NodeWithScore]:
    return make_nodes()


# Construction


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_n": 0}, "top_n=0: give a whole number of at least 1"),
        ({"top_n": -1}, "top_n=-1"),
        ({"top_n": True}, "top_n=True"),
        ({"top_n": "3"}, "top_n='3'"),
        ({"min_score": 2}, r"min_score=2: scores are probabilities"),
        ({"min_score": float("nan")}, "min_score=nan"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": True}, "max_length"),
        ({"metadata_mode": "some"}, "metadata_mode"),
        ({"instruction": 1}, "instruction"),
        ({"top_k": 3}, "top_k"),
        ({"api_key": SECRET}, "api_key"),
        ({"engine_args": SECRET}, "engine_args"),
        ({"reranker": "demo", "engine_args": {"hf_token": SECRET}}, "reranker"),
    ],
)
def test_a_wrong_argument_is_named_at_construction(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Qwen3Rerank(**{"model": "demo", **wrong})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"model": "demo"}, {"model": DEFAULT_MODEL}, {"max_length": 512}, {"engine_args": {}}],
)
def test_a_ready_reranker_comes_without_settings_of_its_own(settings: dict[str, Any]) -> None:
    ready = Reranker("demo")
    with pytest.raises(ValueError, match=f"reranker= is given, and {next(iter(settings))} too"):
        Qwen3Rerank(reranker=ready, **settings)
    assert Qwen3Rerank(reranker=ready, max_length=None, engine_args=None).reranker is ready


def test_a_wrong_value_is_refused_at_assignment_too() -> None:
    adapter = Qwen3Rerank(model="demo")
    wrongs: dict[str, Any] = {"top_n": 0, "min_score": 2, "top_k": 3, "model": "other"}
    for name, value in wrongs.items():
        with pytest.raises(ValueError, match=name):
            setattr(adapter, name, value)
    adapter.top_n = 7
    assert adapter.top_n == 7


def test_the_class_is_what_llama_index_looks_for() -> None:
    assert "BaseNodePostprocessor" in [base.__name__ for base in Qwen3Rerank.__mro__]
    assert issubclass(Qwen3Rerank, BaseNodePostprocessor)
    assert Qwen3Rerank.class_name() == "Qwen3Rerank"


def test_settings_survive_to_dict_and_from_dict() -> None:
    adapter = Qwen3Rerank(
        model="demo",
        instruction=INSTRUCTION,
        top_n=None,
        min_score=0.25,
        max_length=512,
        metadata_mode=MetadataMode.LLM,
        keep_retrieval_score=True,
    )
    data = adapter.to_dict()
    assert data["class_name"] == "Qwen3Rerank"
    assert Qwen3Rerank.from_dict(data).to_dict() == data
    assert Qwen3Rerank.from_json(adapter.to_json()).to_dict() == data
    assert json.loads(adapter.to_json())["min_score"] == 0.25


def test_no_secret_is_shown() -> None:
    adapter = Qwen3Rerank(model="demo", engine_args={"hf_token": SECRET})
    shown = [repr(adapter), str(adapter), adapter.to_json(), f"{adapter.to_dict()}"]
    shown += [adapter.model_dump_json(), f"{Qwen3Rerank.model_json_schema()}"]
    assert all("demo" in text for text in shown[:-1])
    assert not [text for text in shown if SECRET in text]


def test_a_ready_rerankers_model_is_shown() -> None:
    adapter = Qwen3Rerank(reranker=Reranker("demo"))
    assert adapter.model == "demo"
    assert adapter.to_dict()["model"] == "demo"


# Copies, pickles, closing


COPIES: list[Callable[[Qwen3Rerank], Qwen3Rerank]] = [
    copy.copy,
    copy.deepcopy,
    Qwen3Rerank.model_copy,
    lambda adapter: adapter.model_copy(deep=True),
    lambda adapter: adapter.copy(),  # pydantic's deprecated one
]


@pytest.mark.parametrize("duplicate", COPIES)
def test_a_copy_shares_a_ready_reranker_and_the_callbacks(
    reranker: Reranker, nodes: list[NodeWithScore], duplicate: Callable[[Qwen3Rerank], Qwen3Rerank]
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, top_n=2, instruction=INSTRUCTION)
    again = duplicate(adapter)
    assert again is not adapter
    assert again.reranker is reranker
    assert again.callback_manager is adapter.callback_manager
    assert again.to_dict() == adapter.to_dict()
    assert len(again.postprocess_nodes(nodes, query_str=QUERY)) == 2


@pytest.mark.parametrize("duplicate", [*COPIES, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_has_the_settings_and_is_closed_for_itself(
    reranker: Reranker, nodes: list[NodeWithScore], duplicate: Callable[[Qwen3Rerank], Qwen3Rerank]
) -> None:
    handler = LlamaDebugHandler(print_trace_on_end=False)
    with Qwen3Rerank(**SETTINGS, top_n=2, callback_manager=CallbackManager([handler])) as adapter:
        again = duplicate(adapter)
        assert again.to_dict() == adapter.to_dict()
        assert again.engine_args == SETTINGS["engine_args"]
        again.close()
        with pytest.raises(ClosedError):
            again.postprocess_nodes(nodes, query_str=QUERY)
        assert len(adapter.postprocess_nodes(nodes, query_str=QUERY)) == 2


def test_what_a_copy_updates_is_validated() -> None:
    adapter = Qwen3Rerank(model="demo", top_n=5)
    assert adapter.model_copy(update={"min_score": 0.5}).top_n == 5
    assert adapter.model_copy(update={"max_length": 512}).max_length == 512
    for update in ({"top_n": 0}, {"top_k": 3}):
        with pytest.raises(ValidationError):
            adapter.model_copy(update=update)


def test_a_ready_reranker_cannot_be_pickled(reranker: Reranker) -> None:
    with pytest.raises(TypeError, match="ready reranker cannot be pickled: give it model="):
        pickle.dumps(Qwen3Rerank(reranker=reranker))


async def test_a_reranker_that_was_handed_in_stays_open(
    reranker: Reranker, nodes: list[NodeWithScore]
) -> None:
    with Qwen3Rerank(reranker=reranker) as adapter:
        pass
    async with adapter:
        pass
    assert len(adapter.postprocess_nodes(nodes, query_str=QUERY)) == 3


async def test_a_reranker_of_its_own_is_closed(nodes: list[NodeWithScore]) -> None:
    with Qwen3Rerank(model="demo") as first:
        pass
    async with Qwen3Rerank(model="demo") as second:
        pass
    for adapter in (first, second):
        with pytest.raises(ClosedError):
            adapter.postprocess_nodes(nodes, query_str=QUERY)
        with pytest.raises(ClosedError):
            await adapter.apostprocess_nodes(nodes, query_str=QUERY)
