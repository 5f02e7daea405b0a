"""Which hits are kept: the options one by one, together, and where scoring failed."""

from __future__ import annotations

import math
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qwen3_reranker import (
    Hit,
    InputError,
    Reranker,
    RerankerWarning,
    ServerUnavailableError,
)
from qwen3_reranker.errors import EngineError
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.scorer_owner import _max_tokens
from qwen3_reranker.selection import (
    Selection,
    at_least,
    within_budget,
    without_duplicates,
)

from support.helpers import DescendingScorer, FaultyScorer, either
from support.scripted_server import ScriptedServer

words = st.lists(st.sampled_from(["a", "bb", "c", "d", "e", "f", "ǵ", "中文", "http://x/y?z=1"]))
texts = words.map(" ".join) | st.text(max_size=6)


@st.composite
def rankings(draw: st.DrawFn) -> list[Hit]:
    found = draw(st.lists(texts, max_size=12))
    scores = sorted((draw(st.floats(0, 1)) for _ in found), reverse=True)
    order = draw(st.permutations(range(len(found))))
    # NaN, the default of `logit`, does not equal itself.
    return [Hit(i, score, found[i], logit=0.0) for i, score in zip(order, scores, strict=True)]


def count_characters(text: str) -> int:
    return len(text)


def count_words(text: str) -> int:
    return len(text.split())


def count_pairs(text: str) -> int:
    return (len(text.encode()) + 1) // 2


counters: st.SearchStrategy[Callable[[str], int]] = st.sampled_from(
    [count_characters, count_words, count_pairs]
)
selections = st.builds(
    Selection,
    top_n=st.none() | st.integers(1, 6),
    min_score=st.none() | st.floats(0, 1),
    drop_duplicates=st.booleans() | st.floats(0.1, 1),
    token_budget=st.none() | st.integers(1, 40),
    token_counter=counters,
    cut_last=st.booleans(),
)


def quietly(selection: Selection, hits: Sequence[Hit]) -> list[Hit]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RerankerWarning)
        return selection.of(hits)


@given(rankings(), selections)
def test_what_a_selection_keeps(hits: list[Hit], selection: Selection) -> None:
    given_hits = list(hits)
    kept = quietly(selection, hits)
    assert hits == given_hits

    assert selection.top_n is None or len(kept) <= selection.top_n
    assert selection.min_score is None or all(hit.score >= selection.min_score for hit in kept)
    if selection.token_budget is not None:
        assert selection.token_counter is not None
        assert sum(selection.token_counter(hit.text) for hit in kept) <= selection.token_budget
    # Stable, and never a document twice: a subsequence of the ranking.
    by_index = {hit.index: place for place, hit in enumerate(hits)}
    places = [by_index[hit.index] for hit in kept]
    assert places == sorted(set(places))
    for hit, place in zip(kept, places, strict=True):
        original = hits[place]
        assert hit == (replace(original, text=hit.text, cut=True) if hit.cut else original)
        assert original.text.startswith(hit.text)
        assert not hit.cut or (hit is kept[-1] and hit.text and hit.text != original.text)
    if selection.drop_duplicates is not False:
        whole = [hits[place] for place in places]
        share = 0.8 if selection.drop_duplicates is True else selection.drop_duplicates
        assert without_duplicates(whole, share) == whole


@given(rankings(), selections)
def test_a_selection_of_what_it_kept_keeps_it(hits: list[Hit], selection: Selection) -> None:
    kept = quietly(selection, hits)
    assume(not any(hit.cut for hit in kept))  # the rest of a cut text may be a new duplicate
    assert quietly(selection, kept) == kept


@given(rankings(), st.none() | st.integers(1, 6), st.none() | st.floats(0, 1))
def test_without_options_only_the_limits_apply(
    hits: list[Hit], top_n: int | None, min_score: float | None
) -> None:
    kept = [hit for hit in hits if min_score is None or hit.score >= min_score][:top_n]
    assert Selection(top_n=top_n, min_score=min_score).of(hits) == kept


@given(rankings(), st.floats(0, 1), st.floats(0.1, 1))
def test_a_threshold_and_duplicates_apply_in_any_order(
    hits: list[Hit], min_score: float, similarity: float
) -> None:
    one = without_duplicates(at_least(hits, min_score), similarity)
    assert one == at_least(without_duplicates(hits, similarity), min_score)


@given(rankings(), st.integers(1, 40), counters, st.booleans())
def test_a_budget_is_used_as_far_as_the_order_allows(
    hits: list[Hit], budget: int, count: Callable[[str], int], cut_last: bool
) -> None:
    selection = Selection(token_budget=budget, token_counter=count, cut_last=cut_last)
    kept = quietly(selection, hits)
    whole = [hit for hit in kept if not hit.cut]
    assert whole == hits[: len(whole)]
    spent = sum(count(hit.text) for hit in whole)
    if len(whole) < len(hits):  # the next one does not fit
        assert spent + count(hits[len(whole)].text) > budget


@given(st.lists(st.sampled_from(["one", "zwei", "3"]), min_size=1), st.integers(1, 60))
def test_a_cut_text_is_as_long_as_fits(spoken: list[str], budget: int) -> None:
    text = " ".join(spoken)
    kept = quietly(
        Selection(token_budget=budget, token_counter=count_characters, cut_last=True),
        [Hit(0, 0.5, text)],
    )
    longest = max(
        (
            " ".join(spoken[:n])
            for n in range(len(spoken) + 1)
            if len(" ".join(spoken[:n])) <= budget
        ),
        key=len,
    )
    # A first word that is too long is cut, too, but only where it has parts.
    assert [hit.text for hit in kept] == ([longest] if longest else [])


def test_a_long_piece_is_cut_between_its_parts() -> None:
    hit = Hit(0, 0.5, '{"name":"a","values":[1,2,3,4]}', logit=0.0)
    [kept] = within_budget([hit], 14, count_characters, cut_last=True)
    assert kept == replace(hit, text='{"name":"a","', cut=True)


def test_a_long_text_is_not_counted_again_and_again_to_cut_it() -> None:
    text = "word " * 10_000
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return count_words(text)

    [kept] = within_budget([Hit(0, 0.5, text)], 10, count, cut_last=True)
    assert kept.text.split() == ["word"] * 10
    assert counted < len(text) + 1000  # once as a whole


def test_an_empty_result_names_the_tokens_and_the_budget() -> None:
    hits = [Hit(0, 0.9, "four words are here"), Hit(1, 0.8, "one")]
    with pytest.warns(RerankerWarning, match="token_budget=3 .* has 4 tokens.*cut_last=True"):
        assert within_budget(hits, 3, count_words) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert within_budget([], 3, count_words) == []
        assert within_budget(hits[::-1], 3, count_words) == [hits[1]]


def test_a_hit_that_does_not_fit_ends_the_list() -> None:
    hits = [Hit(0, 0.9, "a"), Hit(1, 0.8, "four words are here"), Hit(2, 0.7, "b")]
    assert within_budget(hits, 4, count_words) == hits[:1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_n": 0}, "top_n=0: give a whole number of at least 1, or None to keep all"),
        ({"top_n": -1}, "top_n=-1"),
        ({"top_n": 1.5}, "top_n=1.5"),
        ({"top_n": "3"}, "top_n='3'"),
        ({"top_n": True}, "top_n=True"),
        ({"min_score": -0.1}, "min_score=-0.1: scores are probabilities"),
        ({"min_score": 1.1}, "min_score=1.1"),
        ({"min_score": math.nan}, "min_score=nan"),
        ({"min_score": "0.5"}, "min_score='0.5': give a number"),
        ({"min_score": True}, "min_score=True"),
        ({"drop_duplicates": 0}, "drop_duplicates=0: give True, False, or the share"),
        ({"drop_duplicates": 1.1}, "drop_duplicates=1.1"),
        ({"drop_duplicates": math.nan}, "drop_duplicates=nan"),
        ({"drop_duplicates": None}, "drop_duplicates=None"),
        ({"drop_duplicates": "yes"}, "drop_duplicates='yes'"),
        ({"token_budget": 0}, "token_budget=0: give a whole number of at least 1, or None"),
        ({"token_budget": 1.5}, "token_budget=1.5"),
        ({"token_budget": True}, "token_budget=True"),
        ({"token_counter": "cl100k_base"}, "token_counter='cl100k_base': give a function"),
        ({"cut_last": 1}, "cut_last=1: give True or False"),
        ({"cut_last": None}, "cut_last=None"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Selection(**wrong)
    with pytest.raises(InputError, match=re.escape(message)):
        Reranker("demo").rerank("q", [], **wrong)


@pytest.mark.parametrize("number", [-1, 1.0, True, None, [1, 2], "3", np.float64(3)])
def test_a_counter_that_does_not_count_is_named(number: Any) -> None:
    selection = Selection(token_budget=5, token_counter=lambda _: number)
    with pytest.raises(InputError, match=re.escape(f"token_counter= returned {number!r}")):
        selection.of([Hit(0, 0.5, "a")])


def test_whole_numbers_of_other_types_are_numbers_of_tokens() -> None:
    hits = [Hit(0, 0.5, "a b"), Hit(1, 0.4, "c")]
    count: Any = lambda text: np.int64(count_words(text))  # noqa: E731
    assert Selection(token_budget=3, token_counter=count).of(hits) == hits
    assert Selection(token_budget=2, token_counter=count).of(hits) == hits[:1]


def test_a_budget_by_itself_needs_a_counter() -> None:
    with pytest.raises(InputError, match="token_budget=5 needs a token_counter="):
        Selection(token_budget=5).of([Hit(0, 0.5, "a")])


# With a reranker


CHUNKS = [
    "os.mkdir creates a directory named path with numeric mode mode",
    "shutil.rmtree deletes an entire directory tree",
    "Os.mkdir: creates a directory, named path, with numeric mode mode.",
    "time.sleep suspends the execution of the calling thread for a number of seconds",
]


async def indexes(reranker: Reranker, **options: Any) -> list[list[tuple[int, bool]]]:
    """Return what each of the six methods keeps."""
    pairs = [("query", CHUNKS)]
    kept = [
        reranker.rerank("query", CHUNKS, **options),
        await reranker.arerank("query", CHUNKS, **options),
        *reranker.rerank_many(pairs, **options),
        *await reranker.arerank_many(pairs, **options),
        *reranker.rerank_iter(pairs, **options),
        *[hits async for hits in reranker.arerank_iter(pairs, **options)],
    ]
    return [[(hit.index, hit.cut) for hit in hits] for hits in kept]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"drop_duplicates": True}, [0, 1, 3]),
        ({"drop_duplicates": True, "top_n": 3}, [0, 1, 3]),
        ({"drop_duplicates": True, "min_score": 0.3}, [0, 1]),
        ({"token_budget": 17, "token_counter": count_words}, [0, 1]),
        ({"token_budget": 17, "token_counter": count_words, "top_n": 1}, [0]),
        ({"token_budget": 17, "token_counter": count_words, "cut_last": True}, [0, 1, -2]),
    ],
)
async def test_every_method_takes_the_options(options: dict[str, Any], expected: list[int]) -> None:
    with Reranker(scorer=DescendingScorer()) as reranker:
        kept = await indexes(reranker, **options)
    assert kept == [[(abs(index), index < 0) for index in expected]] * 6


async def test_tokens_are_those_of_the_models_tokenizer() -> None:
    with Reranker(scorer=DescendingScorer()) as reranker:
        count = reranker.token_counter()
        assert (await reranker.atoken_counter())(CHUNKS[0]) == count(CHUNKS[0]) > 10
        both = count(CHUNKS[0]) + count(CHUNKS[1])
        assert await indexes(reranker, token_budget=both) == [[(0, False), (1, False)]] * 6
        assert await indexes(reranker, token_budget=both - 1) == [[(0, False)]] * 6
        # A control token in a document is ordinary text.
        assert count("<|im_end|>") > 1
        for counter in (count, _max_tokens):
            with pytest.raises(InputError, match="text contains the lone surrogate"):
                counter("\ud800")


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_without_a_tokenizer_the_way_out_is_named(call: Any) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("not reached")))
    with pytest.raises(InputError, match=r"has no tokenizer.*prompt_builder"):
        await call(reranker, "query", CHUNKS, token_budget=5)
    assert await call(reranker, "query", [], token_budget=5) == []


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_unscored_documents_are_limited_by_number_and_budget_only(call: Any) -> None:
    scorer = DescendingScorer()
    scorer.broken = True
    reranker = Reranker(scorer=scorer, on_error="keep_order")
    options: dict[str, Any] = {"min_score": 0.9, "drop_duplicates": True}
    budget = len(CHUNKS[0]) + len(CHUNKS[1])
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [0, 1, 2, 3]),
        ({"top_n": 3}, [0, 1, 2]),
        ({"token_budget": 20, "token_counter": count_words}, [0, 1]),
        # Without a tokenizer, bytes are counted.
        ({"token_budget": budget}, [0, 1]),
        ({"token_budget": budget - 1}, [0]),
    ]
    for limits, expected in cases:
        with pytest.warns(RerankerWarning, match="kept the order of 4 documents"):
            hits = await call(reranker, "query", CHUNKS, **options, **limits)
        assert [hit.index for hit in hits] == expected
        assert all(hit.error for hit in hits)
    # Once it was there, the tokenizer is still used.
    scorer.broken = False
    count = reranker.token_counter()
    scorer.broken = True
    both = sum(map(count, CHUNKS[:2]))
    assert both < budget
    with pytest.warns(RerankerWarning):
        hits = await call(reranker, "query", CHUNKS, token_budget=both)
    assert [hit.index for hit in hits] == [0, 1]


@given(st.text())
def test_bytes_are_an_upper_bound_of_tokens(text: str) -> None:
    assume(text.isprintable())  # assigned in this Python's version of Unicode
    assert TOKENIZER.count([text])[0] <= _max_tokens(text)


TOKENIZER = PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))


async def test_a_warning_points_to_the_caller() -> None:
    reranker = Reranker(scorer=DescendingScorer())
    with pytest.warns(RerankerWarning) as caught:
        await indexes(reranker, token_budget=1)
    assert [warning.filename for warning in caught] == [__file__] * 6


async def test_async_methods_select_in_another_thread() -> None:
    threads = []

    def count(text: str) -> int:
        threads.append(threading.current_thread())
        return 1

    await indexes(Reranker(scorer=DescendingScorer()), token_budget=1, token_counter=count)
    here = threading.current_thread()
    first, *_ = by_method = [threads[place : place + 2] for place in range(0, 12, 2)]
    assert len(threads) == 12
    assert first == [here, here]
    assert [here in asked for asked in by_method] == [True, False] * 3


# With a server


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_a_server_needs_a_tokenizer_on_this_machine(call: Any) -> None:
    with ScriptedServer() as server:
        async with Reranker(base_url=server.url) as reranker:
            with pytest.raises(InputError, match="give tokenizer="):
                await call(reranker, "query", CHUNKS, token_budget=30)
        async with Reranker(base_url=server.url, tokenizer=str(DEMO_MODEL)) as reranker:
            everything = await call(reranker, "query", CHUNKS)
            budget = sum(TOKENIZER.count([hit.text for hit in everything[:2]]))
            assert await call(reranker, "query", CHUNKS, token_budget=budget) == everything[:2]
            own = {"token_budget": 20, "token_counter": count_words}
            assert len(await call(reranker, "query", CHUNKS, **own)) in (1, 2)


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_the_budget_holds_without_a_server(call: Any) -> None:
    server = ScriptedServer()
    with server:
        pass
    budget = len(CHUNKS[0]) + len(CHUNKS[1])
    settings: Any = {"max_retries": 0, "on_error": "keep_order", "tokenizer": str(DEMO_MODEL)}
    async with Reranker(base_url=server.url, **settings) as reranker:
        with pytest.warns(RerankerWarning, match="no connection"):
            hits = await call(reranker, "query", CHUNKS, token_budget=budget)
        assert [hit.index for hit in hits] == [0, 1]
        assert reranker.token_counter()("directory") == 9  # bytes
    async with Reranker(base_url=server.url, max_retries=0) as reranker:
        with pytest.raises(ServerUnavailableError):
            await call(reranker, "query", CHUNKS, token_budget=budget)
