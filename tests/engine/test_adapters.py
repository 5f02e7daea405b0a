"""What both adapters have in common: settings, copies, closing, and what they show."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from qwen3_reranker import DEFAULT_MODEL, ClosedError, Reranker

from support.adapters import ADAPTERS, arerank, rerank, shown
from support.helpers import INSTRUCTION, SECRET, SETTINGS


@pytest.fixture(params=ADAPTERS, ids=["LangChain", "LlamaIndex"])
def adapter_class(request: pytest.FixtureRequest) -> Any:
    """What holds for one adapter holds for the other."""
    return request.param


# Settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_n": 0}, "top_n=0: give a whole number of at least 1"),
        ({"top_n": -1}, "top_n=-1"),
        ({"top_n": True}, "top_n=True: give"),
        ({"top_n": "3"}, "top_n='3': give"),
        ({"min_score": 2}, "min_score=2: scores are probabilities"),
        ({"min_score": float("nan")}, "min_score=nan"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": True}, "max_length"),
        ({"max_length": "512"}, "max_length"),
        ({"instruction": 1}, "instruction"),
        ({"topn": 3}, "topn\n  Extra inputs are not permitted"),
        ({"timeout": 0}, "timeout=0"),
        ({"api_key": SECRET}, "api_key"),
        ({"engine_args": SECRET}, "engine_args"),
        ({"engine_args": {"hf_token": SECRET}, "top_n": 0}, "top_n=0"),
        ({"engine_args": {"hf_token": SECRET}, "api_key": SECRET}, "api_key"),
        ({"reranker": "demo"}, "instance of Reranker"),
        ({"reranker": "demo", "engine_args": {"hf_token": SECRET}}, "reranker"),
    ],
)
def test_a_wrong_argument_is_named_at_construction(
    adapter_class: Any, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        adapter_class(**{"model": "demo", **wrong})
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"model": "demo"}, {"model": DEFAULT_MODEL}, {"max_length": 512}, {"engine_args": {}}],
)
def test_a_ready_reranker_comes_without_settings_of_its_own(
    adapter_class: Any, settings: dict[str, Any]
) -> None:
    ready = Reranker("demo")
    message = f"reranker= is given, and {next(iter(settings))} too"
    with pytest.raises(ValidationError, match=message):
        adapter_class(reranker=ready, **settings)
    adapter = adapter_class(reranker=ready, max_length=None, engine_args=None)
    assert adapter.reranker is ready
    assert adapter.model_copy().reranker is ready


def test_the_model_is_the_one_that_scores(adapter_class: Any) -> None:
    assert adapter_class(reranker=Reranker("demo")).model == "demo"
    assert adapter_class().model == DEFAULT_MODEL
    assert adapter_class().model_dump()["model"] == DEFAULT_MODEL


def test_settings_of_a_query_can_be_reassigned_and_stay_checked(
    adapter_class: Any, reranker: Reranker
) -> None:
    adapter = adapter_class(reranker=reranker)
    adapter.top_n = 1
    assert len(rerank(adapter)) == 1
    for name, value in {"top_n": 0, "min_score": 2, "topn": 3}.items():
        with pytest.raises(ValidationError, match=name):
            setattr(adapter, name, value)
    with pytest.raises(ValidationError, match="frozen"):
        adapter.model = "another"
    assert adapter.top_n == 1


def test_settings_have_a_json_schema(adapter_class: Any) -> None:
    properties = adapter_class.model_json_schema()["properties"]
    assert {"model", "base_url", "timeout", "api_key"} <= properties.keys()
    assert not {"reranker", "cache", "http_client", "dialect"} & properties.keys()


def test_no_secret_is_shown(adapter_class: Any) -> None:
    adapter = adapter_class(model="demo", engine_args={"hf_token": SECRET})
    texts = shown(adapter)
    assert "demo" in texts[0]
    assert not [text for text in texts if SECRET in text]


# Copies and closing


async def test_a_reranker_that_was_handed_in_stays_open(
    adapter_class: Any, reranker: Reranker
) -> None:
    with adapter_class(reranker=reranker) as adapter:
        pass
    async with adapter:
        pass
    assert len(rerank(adapter)) == 3
    assert len(await arerank(adapter)) == 3


async def test_a_reranker_of_its_own_is_closed(adapter_class: Any, reranker: Reranker) -> None:
    reranker.warm_up()  # has the same engine
    with adapter_class(**SETTINGS) as first:
        assert len(rerank(first)) == 3
    async with adapter_class(**SETTINGS) as second:
        assert len(await arerank(second)) == 3
    for adapter in (first, second):
        with pytest.raises(ClosedError):
            rerank(adapter)
        with pytest.raises(ClosedError):
            await arerank(adapter)


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda adapter: adapter.model_copy(),
    "model_copy deep": lambda adapter: adapter.model_copy(deep=True),
    "deprecated copy": lambda adapter: adapter.copy(),  # pydantic's deprecated one
    "deprecated copy deep": lambda adapter: adapter.copy(deep=True),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_shares_a_ready_reranker(adapter_class: Any, reranker: Reranker, name: str) -> None:
    original = adapter_class(reranker=reranker, top_n=2, instruction=INSTRUCTION)
    twin = COPIES[name](original)
    assert twin is not original
    assert twin.reranker is reranker
    assert twin.model_dump() == original.model_dump()
    assert len(rerank(twin)) == 2


@pytest.mark.parametrize("name", [*COPIES, "pickle"])
def test_a_copy_shares_the_engine_and_is_closed_separately(
    adapter_class: Any, reranker: Reranker, name: str
) -> None:
    reranker.warm_up()
    processes = set(psutil.Process().children())
    assert processes
    duplicate = COPIES.get(name, lambda adapter: pickle.loads(pickle.dumps(adapter)))
    with adapter_class(**SETTINGS, top_n=2, min_score=0.0) as original:
        with duplicate(original) as twin:
            assert twin.model_dump() == original.model_dump()
            assert twin.engine_args == SETTINGS["engine_args"]
            assert len(rerank(twin)) == 2
            assert set(psutil.Process().children()) == processes
        with pytest.raises(ClosedError):
            rerank(twin)
        assert len(rerank(original)) == 2
        last = duplicate(original)
    with last:
        assert len(rerank(last)) == 2


def test_a_ready_reranker_is_not_pickled(adapter_class: Any, reranker: Reranker) -> None:
    with pytest.raises(TypeError, match="ready reranker cannot be pickled: give it model="):
        pickle.dumps(adapter_class(reranker=reranker))


def test_the_deprecated_copy_selects_settings(adapter_class: Any) -> None:
    adapter = adapter_class(top_n=2, instruction=INSTRUCTION)
    assert adapter.copy(update={"top_n": 5}).top_n == 5
    only = adapter.copy(include={"top_n"})
    assert (only.top_n, only.instruction) == (2, None)
    without = adapter.copy(exclude={"top_n"})
    assert (without.top_n, without.instruction) == (3, INSTRUCTION)
    with pytest.raises(ValidationError, match="top_n=0"):
        adapter.copy(update={"top_n": 0})


def test_model_copy_updates_and_checks(adapter_class: Any) -> None:
    adapter = adapter_class(top_n=2, instruction=INSTRUCTION)
    other = adapter.model_copy(update={"model": "demo", "top_n": None, "min_score": 0.5})
    assert (other.model, other.top_n, other.instruction) == ("demo", None, INSTRUCTION)
    assert other.min_score == 0.5
    assert other.model_copy(update={"max_length": 512}).max_length == 512
    for wrong in ({"top_n": 0}, {"topn": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            adapter.model_copy(update=wrong)
