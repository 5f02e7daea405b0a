"""The settings that only the LlamaIndex postprocessor has, and its own ways to store them."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode
from pydantic import ValidationError

from qwen3_reranker import Reranker
from qwen3_reranker.llama_index import Qwen3Rerank

from support.helpers import INSTRUCTION


def test_an_unknown_metadata_mode_is_refused() -> None:
    wrong: Any = "some"
    with pytest.raises(ValidationError, match="metadata_mode"):
        Qwen3Rerank(model="demo", metadata_mode=wrong)


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


def test_a_ready_rerankers_model_is_stored() -> None:
    assert Qwen3Rerank(reranker=Reranker("demo")).to_dict()["model"] == "demo"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, Qwen3Rerank.model_copy])
def test_a_copy_shares_the_callbacks(duplicate: Callable[[Qwen3Rerank], Qwen3Rerank]) -> None:
    manager = CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])
    adapter = Qwen3Rerank(model="demo", callback_manager=manager)
    again = duplicate(adapter)
    assert again.callback_manager is manager
    assert again.to_dict() == adapter.to_dict()


def test_a_pickle_leaves_the_callbacks_out() -> None:
    handler = LlamaDebugHandler(print_trace_on_end=False)
    adapter = Qwen3Rerank(model="demo", callback_manager=CallbackManager([handler]))
    again = pickle.loads(pickle.dumps(adapter))
    assert again.callback_manager.handlers == []
    assert again.to_dict() == adapter.to_dict()
