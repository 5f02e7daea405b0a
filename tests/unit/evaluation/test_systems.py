"""Systems: every combination, with a name that tells them apart."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import DEFAULT_INSTRUCTION, InputError, Reranker
from qwen3_reranker.evaluation import System
from qwen3_reranker.evaluation.systems import name_systems
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support.evaluation import reranker
from support.helpers import SECRET


def names(systems: Any) -> list[str]:
    return [str(system.name) for system in name_systems(systems)]


def combined(**settings: Any) -> list[str]:
    return names(System.combinations(**settings))


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, ["Qwen3-Reranker-0.6B"]),
    ({"models": ["demo"]}, ["demo"]),
    ({"models": ["Qwen/A", "Qwen/B"]}, ["A", "B"]),
    ({"models": ["one/A", "two/A"]}, ["one/A", "two/A"]),
    ({"base_urls": ["http://h:1", "http://h:2/v1"]}, ["h:1", "h:2"]),
    ({"base_urls": ["http://h/a", "http://h/b"]}, ["http://h/a", "http://h/b"]),
    ({"base_urls": ["http://h"], "models": ["m/A"]}, ["A at h"]),
    ({"models": ["demo"], "depths": [20, None]}, ["demo, depth 20", "demo, depth all"]),
    ({"models": ["demo"], "instructions": [None, "x", "y"]},
     ["demo, default instruction", "demo, instruction 1", "demo, instruction 2"]),
    ({"models": ["demo"], "instructions": ["x"]}, ["demo"]),
    ({"models": ["demo"], "max_lengths": [512, None]},
     ["demo, max_length 512", "demo, max_length default"]),
])  # fmt: skip
def test_names(settings: dict[str, Any], expected: list[str]) -> None:
    assert combined(**settings) == expected


SETTINGS = {
    "models": st.sampled_from(["demo", "a/b", "c/b"]),
    "base_urls": st.sampled_from([None, "http://h:1", "http://h:1/x", "http://g"]),
    "instructions": st.sampled_from([None, "x", "y"]),
    "max_lengths": st.sampled_from([None, 512]),
    "depths": st.sampled_from([None, 1, 20]),
}


@given(
    st.fixed_dictionaries(
        {key: st.lists(v, min_size=1, unique=True) for key, v in SETTINGS.items()}
    )
)
def test_every_combination_has_a_name_of_its_own(settings: dict[str, list[Any]]) -> None:
    systems = System.combinations(**settings)
    count = 1
    for values in settings.values():
        count *= len(values)
    assert len(systems) == count == len(set(names(systems)))


def test_a_reranker_is_a_system() -> None:
    one, other = reranker(), reranker(instruction="x")
    assert names(one) == ["words"]
    assert names([one, other]) == ["words, default instruction", "words, instruction 1"]
    [system] = name_systems(one)
    assert system.reranker is one and system.depth is None


@pytest.mark.parametrize("option", ["api_key", "proxy", "headers", "engine_args"])
def test_systems_that_differ_in_a_secret_differ(option: str) -> None:
    nested = {"headers": "X-Key", "engine_args": "hf_token"}
    first, second, third = (
        System(
            base_url="http://h",
            name=name,
            options={option: {nested[option]: key} if option in nested else key},
        )
        for name, key in (("a", SECRET), ("b", SECRET + "2"), ("c", SECRET))
    )
    assert names([first, second]) == ["a", "b"] and first.scored_by != second.scored_by
    assert first.scored_by == third.scored_by and SECRET not in repr(first.scored_by)
    with pytest.raises(InputError, match="twice: leave one out"):
        names([first, third])


def test_options_may_be_anything() -> None:
    client, devices = httpx.AsyncClient(), ["cpu:0", "cpu:1"]
    first, second, third = (
        System(base_url="http://h", options={"http_client": c, "x": [devices, {1}]})
        for c in (client, client, httpx.AsyncClient())
    )
    assert len({first.built_from, second.built_from, third.built_from}) == 3  # {1} is no key
    first, second, third = (
        System(base_url="http://h", options={"http_client": c, "devices": [*devices]})
        for c in (client, client, httpx.AsyncClient())
    )
    assert first.built_from == second.built_from != third.built_from


def test_the_settings_of_a_reranker_are_those_of_its_system() -> None:
    urls = ["http://h:1", "http://h:2/v1"]
    with (
        Reranker("m", base_url=urls, max_length=512, cache={}) as one,
        Reranker(base_url=urls[0], long_documents="passages", tokenizer=str(DEMO_MODEL)) as other,
        Reranker("demo", max_length=256) as embedded,
    ):
        systems = name_systems([one, other, embedded])
        assert [system.urls for system in systems] == [urls, urls[:1], []]
        assert [system.used_max_length for system in systems] == [512, None, 256]
        assert [system.model_name for system in systems] == ["m", None, "demo"]
        assert [system.name for system in systems] == [
            "m at h:1, h:2, max_length 512",
            "h:1, max_length default",
            "demo, max_length 256",
        ]


def test_the_default_instruction_may_be_written_out() -> None:
    systems = [System(model="demo"), System(model="demo", instruction=DEFAULT_INSTRUCTION)]
    with pytest.raises(InputError, match="twice: leave one out"):
        names(systems)
    assert names([systems[1], System(model="demo", instruction="x")]) == [
        "demo, default instruction",
        "demo, instruction 1",
    ]


def test_names_of_ones_own() -> None:
    assert names([System(model="demo", name="mine"), System(model="demo", depth=5)]) == [
        "mine",
        "demo, depth 5",
    ]


@pytest.mark.parametrize(("systems", "message"), [
    ([], "systems is empty"),
    (["demo"], "systems has 'demo': give a System or a Reranker"),
    ([System(model="demo"), System(model="demo")], "twice: leave one out"),
    ([System(model="demo", name="a"), System(model="x", name="a")], "are called 'a': give name="),
    ([System(model="retriever")], "are called 'retriever'"),
])  # fmt: skip
def test_systems_that_cannot_be_compared(systems: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        name_systems(systems)


@pytest.mark.parametrize(("settings", "message"), [
    ({"depth": 0}, "depth=0"),
    ({"depth": True}, "depth=True"),
    ({"instruction": 5}, "instruction=5"),
    ({"name": "retriever"}, "name='retriever' is the name of"),
    ({"options": {"cache": {}, "on_error": "raise"}}, "options has cache=, on_error="),
    ({"options": {"max_length": 300}}, "options has max_length=: give it to System itself"),
    ({"options": {"model": "demo", "base_url": None}}, "options has base_url=, model=: give it to"),
    ({"options": {"instruction": "x"}}, "options has instruction=: give it to System itself"),
    ({"reranker": Reranker("demo"), "model": "demo"}, "reranker= is given"),
    ({"reranker": Reranker("demo"), "max_length": 5}, "reranker= is given"),
])  # fmt: skip
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        System(**settings)


def test_no_key_is_shown() -> None:
    url = f"http://user:{SECRET}@h:1/v1?key={SECRET}"
    system = System(base_url=url, options={"api_key": SECRET, "headers": {"X-Key": SECRET}})
    assert SECRET not in repr(system)
    assert system.urls == ["http://h:1/v1"] and names(system) == ["h:1"]
    assert SECRET not in repr(system.built_from[3])
