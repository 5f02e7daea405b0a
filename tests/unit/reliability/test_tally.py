"""The harness of the load tests: a mistake in an answer is never missed."""

from __future__ import annotations

import asyncio
import math
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.callers import keep_asking
from reliability.cases import TOLERANCE, Case
from reliability.tally import Answer, RefusedError, Tally

CASE = Case(0, "q", ("a", "b", "c"), (0.1, 0.5, 0.9))
RIGHT = list(enumerate(CASE.scores))
FAILURES = ("wrong", "lost", "doubled", "refused")


def found(answer: Answer) -> list[str]:
    tally = Tally()
    tally.answered(CASE, answer, 0.1)
    assert tally.counts["calls"] == 1
    return [name for name in FAILURES if tally.counts[name]]


@given(st.permutations(RIGHT), st.floats(-TOLERANCE, TOLERANCE))
def test_a_right_answer_is_right_in_any_order(answer: list[tuple[int, float]], off: float) -> None:
    assert found([(index, score + off * 0.99) for index, score in answer]) == []


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ([(0, 0.5), (1, 0.1), (2, 0.9)], "wrong"),
        ([(0, 0.1), (1, 0.5), (2, math.nan)], "wrong"),
        ([*RIGHT, (3, 0.9)], "wrong"),
        ([(0, 0.1 + 1.1 * TOLERANCE), *RIGHT[1:]], "wrong"),
        (RIGHT[1:], "lost"),
        ([], "lost"),
        ([*RIGHT, RIGHT[0]], "doubled"),
        ([(0, 0.1), (1, 0.1), (2, 0.9)], "doubled"),  # as a list of scores would show it
    ],
)
def test_a_mistake_is_found(answer: Answer, failure: str) -> None:
    assert found(answer) == [failure]


async def test_every_call_is_counted_once() -> None:
    stop = asyncio.Event()
    kinds = cycle(["right", "refused", "raised"])
    asked = 0

    async def ask(_: Case) -> Answer:
        nonlocal asked
        asked += 1
        if asked == 30:
            stop.set()
        kind = next(kinds)
        await asyncio.sleep(0)
        if kind == "refused":
            raise RefusedError("later")
        if kind == "raised":
            raise ConnectionError("gone")
        return RIGHT

    tally = Tally()
    await keep_asking(ask, cycle([CASE]), tally, callers=7, until=stop)
    figures = tally.figures()
    assert figures["calls"] == asked == sum(figures[name] for name in ("answered", *FAILURES))
    assert figures["refused"] and figures["lost"] and figures["answered"]
    assert any("ConnectionError: gone" in example for example in figures["examples"])
    assert 0 <= figures["longest_stall"] <= figures["seconds"] + 0.1


def test_a_mark_learns_of_the_first_answer_to_a_call_that_began_later() -> None:
    tally = Tally()
    mark = tally.mark()
    tally.answered(CASE, RIGHT, 60.0)  # this call began a minute ago
    assert mark.seconds is None
    tally.answered(CASE, RIGHT, 0.0)
    first = mark.seconds
    assert first is not None and first >= 0
    tally.answered(CASE, RIGHT, 0.0)
    assert mark.seconds == first
