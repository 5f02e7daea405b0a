"""Load tests of scorers that answer, fail or stall when a test wants them to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from qwen3_reranker import (
    EventLoopError,
    InputError,
    Prompt,
    Reranker,
    RerankerWarning,
    Scorer,
    Scores,
    ServerError,
)
from qwen3_reranker.bench import BenchResult, LoadTest
from qwen3_reranker.bench.schedule import poisson_arrivals
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.usage import Usage

from support.scripted_server import demo_tokenizer

BUILDER = PromptBuilder(demo_tokenizer().to_str())
SMALL: dict[str, Any] = {"documents": 3, "tokens": 8}
Answer = Callable[[int], Awaitable[None]]


class ScriptedScorer(Scorer):
    """
    Answer at once, or as a test says.

    Args:
        answer: Awaited in each call, with the number of the call from 0. It may raise an error.
    """

    model = "scripted"

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer
        self.calls: list[tuple[str, list[str]]] = []
        self.in_flight = self.most = 0

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        number = len(self.calls)
        self.calls.append((query, list(texts)))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(0)
            if self._answer is not None:
                await self._answer(number)
        finally:
            self.in_flight -= 1
        prompts = BUILDER.encode(query, texts, instruction)
        tokens = sum(len(prompt.ids) for prompt in prompts)
        usage = Usage(scored=len(texts), tokens=tokens, retries=int(number == 5))
        return Scores([0.5] * len(texts), [False] * len(texts), usage=usage)

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return BUILDER.prompt(query, document, instruction)


def measure(scorer: Scorer, **arguments: Any) -> BenchResult:
    with Reranker(scorer=scorer) as reranker:
        return LoadTest(reranker, **SMALL | arguments).run()


def test_a_closed_loop_keeps_so_many_in_flight() -> None:
    enough = asyncio.Event()
    scorer = ScriptedScorer()

    async def answer(number: int) -> None:
        # The warm-up and the measurement wait until as many calls have come as may.
        if number in (6, 13):
            enough.set()
            enough.clear()
        elif number < 13:
            await enough.wait()

    scorer = ScriptedScorer(answer)
    result = measure(scorer, concurrency=7, requests=50)
    assert scorer.most == result.max_concurrent_requests == 7
    assert len(scorer.calls) == 7 + 50  # 7 of them warm up
    assert (result.successful, result.failed, result.unfinished) == (50, 0, 0)
    assert len(result.samples) == 50
    assert result.total_documents == 150
    assert all(sample.start >= 0 for sample in result.samples)


def test_a_test_ends_with_its_time() -> None:
    result = measure(ScriptedScorer(), concurrency=2, seconds=0.2)
    assert result.successful > 2
    assert all(sample.start < 0.2 for sample in result.samples)
    assert result.duration >= 0.2
    assert result.client_cpu_seconds > 0
    assert result.settings["seconds"] == 0.2


def test_an_open_loop_does_not_wait_and_counts_waiting() -> None:
    """While one call stalls, the requests planned for that time are sent, and wait with it."""
    arrived = asyncio.Event()

    async def answer(number: int) -> None:
        # The first 16 calls warm up. The next one ends when ten more have come, which wait for it.
        if number == 16 + 10:
            arrived.set()
        elif number >= 16:
            await arrived.wait()

    result = measure(ScriptedScorer(answer), rate=200, requests=40)
    assert (result.successful, result.unfinished) == (40, 0)
    assert result.max_concurrent_requests > 10
    by_start = sorted(result.samples, key=lambda sample: sample.start)
    stalled, *waited = by_start[:10]
    end = by_start[10].start  # of the stall: the request that ended it had not been sent before
    assert all(sample.start + sample.latency >= end for sample in [stalled, *waited])
    assert stalled.latency > waited[-1].latency


def test_latency_counts_from_the_time_that_was_planned() -> None:
    """Even if the client itself falls behind."""
    result = measure(ScriptedScorer(), rate=20_000, requests=400)
    starts = sorted(sample.start for sample in result.samples)
    assert starts == pytest.approx(poisson_arrivals(20_000, 0.02, seed=0), abs=1e-6)
    # No client sends so fast, so requests were late, and their latencies say so.
    assert result.duration > 0.02
    assert result.p99_e2el_ms is not None
    assert result.p99_e2el_ms > (result.duration - 0.02) * 500


def test_the_seed_changes_the_arrivals() -> None:
    runs = [measure(ScriptedScorer(), rate=500, requests=20, seed=seed) for seed in (1, 1, 2)]
    starts = [sorted(sample.start for sample in run.samples) for run in runs]
    assert starts[0] == pytest.approx(starts[1], abs=1e-6)
    assert starts[0] != pytest.approx(starts[2], abs=1e-3)
    assert [run.settings["seed"] for run in runs] == [1, 1, 2]


@pytest.mark.parametrize("load", [{"concurrency": 3}, {"rate": 500}])
def test_failures_are_counted_by_type(load: dict[str, Any]) -> None:
    warm_up = 3 if "concurrency" in load else 16

    async def answer(number: int) -> None:
        if number < warm_up:
            raise RuntimeError("a failure in the warm-up does not count")
        if (number - warm_up) % 3 == 1:
            raise ServerError(f"answered 503 in call {number}", 503)
        if (number - warm_up) % 10 == 2:
            raise RuntimeError("a defect of a scorer")

    result = measure(ScriptedScorer(answer), requests=30, **load)
    assert (result.successful, result.failed) == (18, 12)
    counts = {name: failure.count for name, failure in result.errors.items()}
    assert counts == {"ServerError": 10, "RuntimeError": 2}
    assert result.errors["ServerError"].message.startswith("answered 503 in call ")
    assert result.total_documents == 18 * 3
    assert result.request_throughput == pytest.approx(18 / result.duration)
    errors = [sample.error for sample in result.samples if sample.error]
    assert sorted(errors) == ["RuntimeError"] * 2 + ["ServerError"] * 10


def test_failures_that_keep_the_order_are_failures() -> None:
    async def answer(number: int) -> None:
        raise ServerError("is down")

    with Reranker(scorer=ScriptedScorer(answer), on_error="keep_order") as reranker:
        test = LoadTest(reranker, concurrency=1, requests=4, **SMALL)
        with pytest.warns(RerankerWarning, match="is down"):
            result = test.run()
    assert (result.successful, result.failed) == (0, 4)
    [failure] = result.errors.values()
    assert "is down" in failure.message
    assert result.mean_e2el_ms is None


def test_tokens_and_retries_are_those_of_the_calls() -> None:
    scorer = ScriptedScorer()
    result = measure(scorer, concurrency=2, requests=10, documents=6, tokens=20)
    sent = scorer.calls[2:]
    ids = [prompt.ids for query, texts in sent for prompt in BUILDER.encode(query, texts)]
    assert result.total_input_tokens == sum(map(len, ids))
    assert len(set(map(len, ids))) == 1
    assert result.total_token_throughput == pytest.approx(sum(map(len, ids)) / result.duration)
    assert result.retries == 1


def test_tokens_that_nobody_counts_are_unknown() -> None:
    class Uncounted(ScriptedScorer):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            return Scores([0.5] * len(texts), [False] * len(texts))

    result = measure(Uncounted(), concurrency=1, requests=2)
    assert result.total_input_tokens is result.total_token_throughput is None


def test_the_instruction_is_sent() -> None:
    instructions = set()

    class Listening(ScriptedScorer):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            instructions.add(instruction)
            return await super().score(query, texts, instruction)

    result = measure(Listening(), concurrency=1, requests=2, instruction="Find the recipe")
    assert instructions == {"Find the recipe"}
    assert result.settings["instruction"] == "Find the recipe"


def test_the_rerankers_own_instruction_is_recorded() -> None:
    with Reranker(scorer=ScriptedScorer(), instruction="Find the recipe") as reranker:
        test = LoadTest(reranker, concurrency=1, requests=1, **SMALL)
        other = LoadTest(reranker, concurrency=1, requests=1, instruction="Find the cook", **SMALL)
        assert test.run().settings["instruction"] == "Find the recipe"
        assert other.run().settings["instruction"] == "Find the cook"
    default = measure(ScriptedScorer(), concurrency=1, requests=1)
    assert default.settings["instruction"] is None


def test_own_texts() -> None:
    scorer = ScriptedScorer()
    texts = [f"text {number}" for number in range(9)]
    with Reranker(scorer=scorer) as reranker:
        result = LoadTest(reranker, concurrency=1, requests=5, texts=texts).run()
    # There are fewer than the usual 50 documents.
    assert all(sorted(sent) == texts for _, sent in scorer.calls)
    assert result.settings["documents"] == result.settings["texts"] == 9
    assert "tokens" not in result.settings


@pytest.mark.parametrize(("load", "warm_up"), [({"concurrency": 1}, 1), ({"rate": 500}, 16)])
def test_own_pairs_are_measured_from_the_first_one_on(load: dict[str, Any], warm_up: int) -> None:
    scorer = ScriptedScorer()
    pairs = [("one", ["a", "b", "a", " "]), ("two", ["c"])]
    with Reranker(scorer=scorer) as reranker:
        result = LoadTest(reranker, requests=5, pairs=pairs, **load).run()
        before, measured = scorer.calls[:warm_up], scorer.calls[warm_up:]
        once = LoadTest(reranker, requests=2, pairs=pairs, **load).run()
    queries = ["one", "two", "one", "two", "one"]
    assert [query for query, _ in measured] == queries
    assert (result.repetitions, once.repetitions) == (2.5, 1.0)
    # Blank and repeated documents count, but are not scored.
    assert result.total_documents == 3 * 4 + 2 * 1
    assert result.settings["pairs"] == 2
    # No prompt of the warm-up begins as one that is measured.
    assert len({query for query, _ in before} | {"one", "two"}) == warm_up + 2
    own = [["a", "b"], ["c"]]
    assert [texts for _, texts in before] == [own[number % 2] for number in range(warm_up)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"documents": 0}, "documents=0: give a whole number of at least 1"),
        ({"tokens": 1.5}, "tokens=1.5: give a whole number of at least 1"),
        ({"rate": 1, "concurrency": 1}, "exclude each other"),
        ({"instruction": 3}, "instruction=3"),
        ({"texts": ["a"], "pairs": [("a", ["b"])]}, "texts and pairs exclude each other"),
        ({"texts": ["a"], "tokens": 5}, "tokens=5: it applies to random documents"),
        ({"pairs": [("a", ["b"])], "documents": 5}, "documents=5: each of your pairs"),
        ({"texts": ["a"], "documents": 2}, "there are only 1 different texts"),
        ({"pairs": []}, "pairs is empty"),
    ],
)
def test_arguments_are_checked_before_anything_starts(
    arguments: dict[str, Any], message: str
) -> None:
    scorer = ScriptedScorer()
    with Reranker(scorer=scorer) as reranker, pytest.raises(InputError, match=message):
        LoadTest(reranker, **arguments)
    assert scorer.calls == []


async def test_a_test_that_is_canceled_has_a_result() -> None:
    blocked = asyncio.Event()

    async def answer(number: int) -> None:
        if number >= 2 + 4:
            blocked.set()
            await asyncio.sleep(60)

    scorer = ScriptedScorer(answer)
    async with Reranker(scorer=scorer) as reranker:
        test = LoadTest(reranker, concurrency=2, **SMALL)
        running = asyncio.create_task(test.arun())
        while not blocked.is_set() or scorer.in_flight < 2:
            await asyncio.sleep(0.001)
        partial = test.result()
        assert (partial.successful, partial.unfinished) == (4, 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        final = test.result()
        assert (final.successful, final.failed, final.unfinished) == (4, 0, 2)
        assert final.duration == test.result().duration  # it does not go on
        while scorer.in_flight:  # the calls are canceled on the package's event loop
            await asyncio.sleep(0.001)


async def test_nothing_is_measured_before_the_warm_up_has_ended() -> None:
    async def answer(number: int) -> None:
        await asyncio.sleep(60)

    scorer = ScriptedScorer(answer)
    async with Reranker(scorer=scorer) as reranker:
        test = LoadTest(reranker, concurrency=2, **SMALL)
        running = asyncio.create_task(test.arun())
        while scorer.in_flight < 2:
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert (test.result().successful, test.result().unfinished) == (0, 0)


async def test_run_says_what_to_do_where_a_loop_runs() -> None:
    async with Reranker(scorer=ScriptedScorer()) as reranker:
        test = LoadTest(reranker, concurrency=1, requests=3, **SMALL)
        with pytest.raises(EventLoopError, match=r"await arun\(\) instead"):
            test.run()
        assert (await test.arun()).successful == 3


def test_a_test_can_run_again() -> None:
    with Reranker(scorer=ScriptedScorer()) as reranker:
        test = LoadTest(reranker, concurrency=2, requests=5, **SMALL)
        assert [test.run().successful for _ in range(2)] == [5, 5]


def test_progress_is_reported() -> None:
    seen = []

    async def answer(number: int) -> None:
        if number == 3:
            raise ServerError("is down")

    with Reranker(scorer=ScriptedScorer(answer)) as reranker:
        test = LoadTest(reranker, concurrency=1, requests=4, **SMALL)
        test.run(on_progress=lambda *numbers: seen.append(numbers))
    assert [numbers[1:] for numbers in seen] == [(1, 0), (2, 0), (2, 1), (3, 1)]
    assert sorted(seen) == seen


def test_the_environment_is_described() -> None:
    environment = measure(ScriptedScorer(), concurrency=1, requests=1).environment
    assert environment["model"] == "scripted"
    assert environment["backend"] == "ScriptedScorer with scripted"
    assert {"qwen3_reranker", "python", "machine", "date"} < set(environment)
