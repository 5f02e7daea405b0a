"""The counts of a soak test: every promise that is broken is found, and named."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import Any

import pytest

from qwen3_reranker import Hit
from qwen3_reranker.errors import ServerUnavailableError

from reliability.calls import ALL, Calls, Recorded
from reliability.cases import Case
from reliability.soak import problems

CASE = Case(0, "q", ("a", "b", "c"), (0.1, 0.5, 0.9))
HITS = [Hit(2, 0.9, "c"), Hit(1, 0.5, "b"), Hit(0, 0.1, "a")]
FAILURES = ("unexpected", "wrong", "lost", "doubled", "late")
NAMES = ("engine", "cached", "servers", "gateway")


def found(calls: Calls) -> list[str]:
    figures = calls.figures()
    assert figures["servers"]["calls"] == figures[ALL]["calls"] == 1
    assert calls.uncounted() == 0
    names = [name for name in FAILURES if figures["servers"][name]]
    assert names == [name for name in FAILURES if figures[ALL][name]]
    return names


@pytest.fixture
def calls() -> Calls:
    return Calls({"servers": 60.0, "gateway": 60.0})


@pytest.fixture
def recorded(calls: Calls) -> Recorded:
    return Recorded(calls, "servers", CASE)


@pytest.mark.parametrize(
    ("hits", "failure"),
    [
        (HITS, []),
        (HITS[::-1], ["wrong"]),
        ([HITS[0], HITS[1], Hit(0, 0.1, "b")], ["wrong"]),
        (HITS[:2], ["lost"]),
        ([*HITS, HITS[2]], ["doubled"]),
    ],
)
def test_hits_are_complete_in_order_and_have_their_texts(
    calls: Calls, recorded: Recorded, hits: list[Hit], failure: list[str]
) -> None:
    with recorded:
        recorded.ranked(hits)
    assert found(calls) == failure


@pytest.mark.parametrize(
    ("scores", "failure"),
    [
        ([0.1, 0.5, 0.9], []),
        ([0.5, 0.1, 0.9], ["wrong"]),
        ([0.1, 0.1, 0.9], ["doubled"]),
        ([0.1, 0.5], ["lost"]),
        ([0.1, 0.5, 0.9, 0.9], ["wrong"]),
    ],
)
def test_scores_are_those_of_their_documents(
    calls: Calls, recorded: Recorded, scores: list[float], failure: list[str]
) -> None:
    with recorded:
        recorded.scored(scores)
    assert found(calls) == failure


@pytest.mark.parametrize("canceled", [True, False])
def test_only_a_call_that_was_canceled_may_end_so(
    calls: Calls, recorded: Recorded, canceled: bool
) -> None:
    with recorded:
        recorded.canceled = canceled
        raise asyncio.CancelledError
    assert found(calls) == ([] if canceled else ["lost"])
    assert calls.figures()["servers"]["canceled"] == canceled


def test_an_error_is_expected_only_while_a_fault_hits_the_reranker(calls: Calls) -> None:
    def fail() -> None:
        with Recorded(calls, "servers", CASE):
            raise ServerUnavailableError("no")

    fail()
    other = calls.excuse("a fault", frozenset({"gateway"}))
    fail()
    window = calls.excuse("a fault", frozenset({"servers"}))
    fail()
    with Recorded(calls, "servers", CASE):  # it began before the end
        window.ended = other.ended = time.monotonic()
        raise ServerUnavailableError("no")
    fail()
    figures = calls.figures()["servers"]
    assert figures["errors"] == {"ServerUnavailableError": 5}
    assert figures["unexpected"] == 3


@pytest.mark.parametrize(("name", "unexpected"), [("servers", 0), ("gateway", 0), ("engine", 1)])
def test_a_call_that_lasts_from_one_fault_into_the_next(name: str, unexpected: int) -> None:
    calls = Calls({name: 60.0})
    first = calls.excuse("a fault", frozenset())
    with Recorded(calls, name, CASE):
        first.ended = time.monotonic()
        calls.excuse("another fault", frozenset())
        raise ServerUnavailableError("no")
    assert calls.figures()[name]["unexpected"] == unexpected


def test_other_errors_are_lost_answers(calls: Calls, recorded: Recorded) -> None:
    calls.excuse("a fault", frozenset({"servers"}))
    with recorded:
        raise KeyError("servers")
    assert found(calls) == ["lost"]


def test_a_call_that_takes_too_long_is_late(recorded: Recorded, calls: Calls) -> None:
    calls.limits["servers"] = -1.0
    with recorded:
        recorded.ranked(HITS)
    assert found(calls) == ["late"]


def test_a_call_that_does_not_end_is_lost(recorded: Recorded, calls: Calls) -> None:
    with recorded:
        assert calls.uncounted() == 1
        calls.give_up()
        recorded.ranked(HITS)
    assert found(calls) == ["lost"]


GOOD_PART = dict.fromkeys(FAILURES, 0) | {
    "answered": 9,
    "canceled": 1,
    "longest_stall": 1.0,
    "seconds": 600.0,
    "examples": [],
}
GOOD: dict[str, Any] = {
    **{name: dict(GOOD_PART) for name in (*NAMES, ALL)},
    "uncounted": 0,
    "faults": [{"fault": "a hang", "seconds": 5.0, "met": True, "recovered": 1.0}],
    "forks": {"right": 3, "wrong": []},
    "memory": {"mib": 600, "grown_mib": 1.5},
}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        *((f"gateway/{name}", 1, f"gateway: 1 calls {name}") for name in FAILURES),
        ("cached/answered", 0, "cached: no call was answered"),
        ("all/canceled", 0, "no call was canceled"),
        ("servers/longest_stall", 121.0, "servers: no answer for 121 s"),
        ("engine/longest_stall", 366.0, "engine: no answer for 366 s"),
        ("uncounted", 1, "1 calls were not counted"),
        ("faults/0/met", False, "a hang: it had no effect"),
        ("faults/0/recovered", None, "a hang: no recovery in 240 s"),
        ("forks/wrong", ["dead"], "forked child: dead"),
        ("memory/grown_mib", 65.0, "the memory grew by 65.0 MiB, and 64 are allowed"),
    ],
)
def test_a_broken_promise_is_named(path: str, value: object, words: str) -> None:
    run = copy.deepcopy(GOOD)
    assert problems(run) == []
    *way, last = path.split("/")
    part: Any = run
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    assert problems(run) == [words]
