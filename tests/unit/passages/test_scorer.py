"""Documents are scored by their passages: which ones, how often, and what a hit says of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import (
    InputError,
    Passage,
    Prompt,
    PromptTooLongError,
    Reranker,
    RerankerWarning,
    ScoreError,
    Scorer,
    Scores,
)
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.probability import logit, sigmoid
from qwen3_reranker.model.prompt import PromptBuilder

from support.helpers import FaultyScorer, either
from support.scripted_server import Reply, Request, ScriptedServer, relevance

DEMO = (DEMO_MODEL / "tokenizer.json").read_text("utf-8")
QUERY = "Where does the river begin?"
ANSWER = "This is where the river does begin: below the glacier."
FILLER = "".join(f"Sentence {n} is about something else entirely. " for n in range(400))
HIDDEN = f"{FILLER}{ANSWER} {FILLER}"
CALLS: list[Any] = [either("rerank"), either("arerank")]
PASSAGES: dict[str, Any] = {"long_documents": "passages", "passage_tokens": 128}


class Counting(Scorer):
    """Scores with `relevance`, and counts what it is asked."""

    model = "counting"

    def __init__(self, max_length: int = 8192) -> None:
        self.builder = PromptBuilder(DEMO, max_length)
        self.asked: list[list[str]] = []

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.asked.append(list(texts))
        fitted = self.builder.truncate(query, texts, instruction)
        values = [relevance(query, text.text, instruction) for text in fitted]
        return Scores(values, [text.truncated for text in fitted])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return self.builder.prompt(query, document, instruction)

    async def prompt_builder(self) -> PromptBuilder:
        return self.builder

    async def fingerprint(self) -> str:
        return "relevance"


class Scripted(Counting):
    """Returns log-odds by the first word of a text, such as "w1.5"."""

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.asked.append(list(texts))
        logits = [float(text.split()[0].removeprefix("w")) for text in texts]
        return Scores([sigmoid(value) for value in logits], [False] * len(texts), logits)


def scripted(*logits: float) -> str:
    """Return a document with a paragraph of 15 tokens for each of the log-odds."""
    builder = PromptBuilder(DEMO)
    words = [f"w{value}" for value in logits]
    lengths = builder.document_lengths(words)
    return "\n\n".join(w + " x" * (15 - n) for w, n in zip(words, lengths, strict=True))


@pytest.mark.parametrize("call", CALLS)
async def test_the_passage_that_answers_decides(call: Any) -> None:
    scorer = Counting()
    reranker = Reranker(scorer=scorer, **PASSAGES)
    best, other = await call(reranker, QUERY, [FILLER, HIDDEN])
    assert (best.index, other.index) == (1, 0)
    assert ANSWER in HIDDEN[best.passage.start : best.passage.end]
    assert best.text == HIDDEN
    assert best.score == best.passage.score > 0.6 > 0.1 > other.score
    assert best.passage.count > 40
    assert not best.truncated
    assert max(scorer.builder.document_lengths(scorer.asked[0])) <= 128


async def test_cut_documents_have_no_passages() -> None:
    (hit,) = await Reranker(scorer=Counting(max_length=512)).arerank(QUERY, [HIDDEN])
    assert hit.truncated
    assert hit.passage is None
    assert hit.score < 0.1


@pytest.mark.parametrize("call", CALLS)
async def test_all_passages_are_scored_together_and_equal_ones_once(call: Any) -> None:
    scorer = Scripted()
    reranker = Reranker(scorer=scorer, **PASSAGES | {"passage_tokens": 16, "passage_overlap": 0})
    await call(reranker, QUERY, [scripted(1, 2, 1), scripted(2), scripted(2, 3)])
    (asked,) = scorer.asked
    assert [text.split()[0] for text in asked] == ["w1", "w2", "w3"]
    assert reranker.stats().passages == 6


@given(st.lists(st.text("ab .\n", min_size=1).filter(str.strip), min_size=1, unique=True))
def test_short_documents_score_as_before(texts: list[str]) -> None:
    whole, passages = Counting(), Counting()
    before = Reranker(scorer=whole).rerank(QUERY, texts)
    now = Reranker(scorer=passages, long_documents="passages").rerank(QUERY, texts)
    assert [replace(hit, passage=None) for hit in now] == before
    assert [hit.passage for hit in now] == [Passage(0, len(hit.text), hit.score, 1) for hit in now]
    assert passages.asked == whole.asked


def test_the_room_bounds_passages() -> None:
    scorer = Counting(max_length=200)
    (hit,) = Reranker(scorer=scorer, long_documents="passages").rerank(QUERY, [HIDDEN])
    assert not hit.truncated
    assert max(scorer.builder.document_lengths(scorer.asked[0])) <= scorer.builder.room(QUERY)
    assert ANSWER in HIDDEN[hit.passage.start : hit.passage.end] if hit.passage else False


@pytest.mark.parametrize(("overlap", "least", "most"), [(0, 0, 1), (None, 8, 22), (64, 32, 70)])
def test_passages_overlap(overlap: int | None, least: int, most: int) -> None:
    scorer = Counting()
    words = " ".join(f"word{n}" for n in range(400))
    Reranker(scorer=scorer, **PASSAGES, passage_overlap=overlap).score(QUERY, [words])
    for one, other in pairwise(scorer.asked[0]):
        shared = next(n for n in range(len(one) + 1) if other.startswith(one[n:]))
        assert least <= scorer.builder.document_lengths([one[shared:]])[0] <= most


def test_a_query_without_room_is_an_error() -> None:
    reranker = Reranker(scorer=Counting(max_length=100), long_documents="passages")
    with pytest.raises(PromptTooLongError, match="no room for a document"):
        reranker.rerank("river " * 100, [HIDDEN])


LOGITS = [0.5, -2.0, 3.0, 1.0]
PROBABILITIES = [sigmoid(value) for value in LOGITS]


@pytest.mark.parametrize(
    ("aggregate", "score", "best", "count"),
    [
        ("max", max(PROBABILITIES), 2, 4),
        ("mean", fmean(PROBABILITIES), 2, 4),
        ("mean_top_3", fmean(sorted(PROBABILITIES)[1:]), 2, 4),
        ("first", PROBABILITIES[0], 0, 1),
        (min, min(PROBABILITIES), 2, 4),
        (lambda scores: np.float32(scores[1]), float(np.float32(PROBABILITIES[1])), 2, 4),
        (lambda scores: len(scores) == 4 and 1, 1.0, 2, 4),
    ],
)
def test_aggregates(aggregate: Any, score: float, best: int, count: int) -> None:
    document = scripted(*LOGITS)
    reranker = Reranker(
        scorer=Scripted(),
        **PASSAGES | {"passage_tokens": 16, "passage_overlap": 0, "aggregate": aggregate},
    )
    (hit,) = reranker.rerank(QUERY, [document])
    assert hit.score == pytest.approx(score)
    assert hit.passage is not None
    assert hit.passage.score == PROBABILITIES[best]
    assert hit.passage.count == count
    assert document[hit.passage.start :].startswith(f"w{LOGITS[best]}")
    own = aggregate in ("max", "first")
    assert hit.logit == (LOGITS[best] if own else pytest.approx(logit(score)))


def test_log_odds_decide_between_passages_and_documents_whose_scores_are_rounded() -> None:
    document = scripted(50, 60, 40)
    reranker = Reranker(
        scorer=Scripted(), **PASSAGES | {"passage_tokens": 16, "passage_overlap": 0}
    )
    first, second = reranker.rerank(QUERY, [scripted(55), document])
    assert (first.index, first.score, first.logit) == (1, 1.0, 60)
    assert (second.score, second.logit) == (1.0, 55)
    assert first.passage is not None
    assert document[first.passage.start :].startswith("w60")


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, "0.5", None, True])
def test_what_is_no_probability_is_an_error(value: Any) -> None:
    reranker = Reranker(scorer=Counting(), **PASSAGES, aggregate=lambda _: value)
    with pytest.raises(ScoreError, match=f"aggregate= returned {value!r} for 1 passages"):
        reranker.rerank(QUERY, ["a river"])


def test_max_passages_bounds_the_cost_and_finds_the_answer() -> None:
    scorer = Counting()
    reranker = Reranker(scorer=scorer, **PASSAGES, max_passages=3)
    (hit,) = reranker.rerank(QUERY, [HIDDEN])
    assert len(scorer.asked[0]) == 3
    assert hit.passage is not None
    assert hit.passage.count == 3
    assert ANSWER in HIDDEN[hit.passage.start : hit.passage.end]


@pytest.mark.parametrize("call", CALLS)
async def test_the_cache_holds_scores_of_passages(call: Any) -> None:
    scorer = Counting()
    reranker = Reranker(scorer=scorer, cache={}, **PASSAGES)
    first = await call(reranker, QUERY, [HIDDEN])
    assert await call(reranker, QUERY, [HIDDEN]) == first
    assert len(scorer.asked) == 1
    # A document that shares passages needs only its other ones.
    await call(reranker, QUERY, [HIDDEN + "One more sentence."])
    assert len(scorer.asked[1]) <= 2


@pytest.mark.parametrize("name", ["rerank_many", "arerank_many"])
async def test_streams_of_queries(name: str) -> None:
    reranker = Reranker(scorer=Counting(), **PASSAGES)
    pairs = [(QUERY, [FILLER, HIDDEN]), (QUERY, []), (QUERY, [HIDDEN, " "])]
    found = await either(name)(reranker, pairs)
    assert found == [reranker.rerank(*pair) for pair in pairs]
    assert found[2][1].passage is None


def test_the_prompt_is_that_of_the_first_passage() -> None:
    scorer = Counting()
    reranker = Reranker(scorer=scorer, **PASSAGES)
    prompt = reranker.prompt(QUERY, HIDDEN)
    reranker.rerank(QUERY, [HIDDEN])
    assert prompt == scorer.prompt(QUERY, scorer.asked[0][0], None)
    assert not prompt.truncated


class ThreadRecorder(PromptBuilder):
    """Records the threads that measure texts."""

    def __init__(self) -> None:
        super().__init__(DEMO)
        self.threads: set[str] = set()

    def document_lengths(self, documents: Sequence[str]) -> list[int]:
        self.threads.add(threading.current_thread().name)
        return super().document_lengths(documents)


@pytest.mark.parametrize(
    ("document", "thread"),
    [
        ("A short document.", "qwen3-reranker"),
        (FILLER[:9000], "qwen3-reranker-worker"),
        (FILLER, "qwen3-reranker-worker"),
    ],
)
def test_long_documents_are_divided_in_a_thread(document: str, thread: str) -> None:
    scorer = Counting()
    builder = scorer.builder = ThreadRecorder()
    Reranker(scorer=scorer, long_documents="passages").rerank(QUERY, [document])
    assert {name.split("_")[0] for name in builder.threads} == {thread}


@pytest.mark.parametrize("document", ["", " ", "\t \n" * 6000])
def test_a_blank_document_has_a_prompt(document: str) -> None:
    prompt = Reranker("demo", long_documents="passages").prompt("q", document)
    assert prompt == Reranker("demo").prompt("q", document)


def test_a_document_is_divided_where_the_query_leaves_room_for_a_few_tokens() -> None:
    reranker = Reranker("demo", max_length=71, long_documents="passages")
    prompt = reranker.prompt("q", "ab \u0301cd \u0301ef")
    assert "<Document>: ab<|im_end|>" in prompt.text
    assert not prompt.truncated


def test_failures_keep_the_order() -> None:
    scorer = Counting()
    reranker = Reranker(
        scorer=scorer, **PASSAGES, on_error="keep_order", aggregate=lambda _: math.inf
    )
    with pytest.warns(RerankerWarning, match="aggregate= returned inf"):
        hits = reranker.rerank(QUERY, [FILLER, HIDDEN])
    assert [(hit.index, hit.passage) for hit in hits] == [(0, None), (1, None)]


def test_a_scorer_without_a_tokenizer_is_an_error() -> None:
    reranker = Reranker(scorer=FaultyScorer(), long_documents="passages")
    with pytest.raises(InputError, match=r"FaultyScorer has no tokenizer.*prompt_builder\(\)"):
        reranker.rerank(QUERY, ["a river"])


def test_the_scorer_is_described_and_passed_through() -> None:
    reranker = Reranker(scorer=Counting(), cache={}, **PASSAGES)
    assert reranker.describe().splitlines() == [
        "Counting with counting, scores cached in a dict",
        "documents are scored in passages of up to 128 tokens that overlap by about 16",
    ]
    assert reranker.model == "counting"
    assert reranker.long_documents == "passages"
    assert Reranker(scorer=Counting()).long_documents == "cut"
    assert reranker.warm_up().stats().endpoints == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_documents": "chunk"}, "long_documents='chunk': give one of 'cut', 'passages'"),
        ({"passage_tokens": 15}, "passage_tokens=15: give a whole number of at least 16"),
        ({"passage_tokens": 51.2}, "passage_tokens=51.2: give a whole number"),
        ({"passage_overlap": -1}, "passage_overlap=-1: give a whole number of at least 0"),
        ({"passage_overlap": 512}, "passage_overlap=512: give less than passage_tokens=512"),
        ({"aggregate": "median"}, "aggregate='median': give one of 'max', 'mean_top_3', 'mean', "),
        ({"max_passages": 0}, "max_passages=0: give a whole number of at least 1"),
        ({"max_passages": True}, "max_passages=True: give a whole number of at least 1"),
        (
            {"long_documents": "cut", "passage_tokens": 256, "max_passages": 3},
            "passage_tokens=, max_passages= can be used only for passages: give long_documents=",
        ),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Reranker(scorer=Counting(), **{"long_documents": "passages"} | options)
    assert str(refused.value).startswith(message)


async def test_options_at_their_defaults_count_as_not_given() -> None:
    reranker = Reranker(scorer=Counting(), passage_tokens=512, max_passages=None)
    assert reranker.long_documents == "cut"


@pytest.mark.parametrize("dialect", ["vllm-classify", "vllm-rerank"])
@pytest.mark.parametrize("call", CALLS)
async def test_with_a_server(call: Any, dialect: str) -> None:
    with ScriptedServer() as server:
        async with Reranker(
            base_url=server.url, tokenizer="demo", dialect=dialect, **PASSAGES
        ) as reranker:
            best, other = await call(reranker, QUERY, [FILLER, HIDDEN])
    assert (best.index, other.index) == (1, 0)
    assert ANSWER in HIDDEN[best.passage.start : best.passage.end]
    assert not best.truncated


@pytest.mark.parametrize("template", ["client", "server"])
async def test_passages_are_not_truncated_for_a_server(template: Any) -> None:
    """A template that the server writes may be longer, for which some tokens are left free."""
    with ScriptedServer() as server:
        async with Reranker(
            base_url=server.url,
            tokenizer="demo",
            dialect="vllm-rerank",
            template=template,
            max_length=256,
            long_documents="passages",
        ) as reranker:
            (hit,) = await reranker.arerank(QUERY, [HIDDEN])
    assert not hit.truncated
    assert hit.passage is not None
    assert ANSWER in HIDDEN[hit.passage.start : hit.passage.end]


async def test_a_passage_that_a_smaller_server_cut_is_marked() -> None:
    with ScriptedServer() as larger, ScriptedServer() as smaller:
        models = larger.script["GET", "/v1/models"](Request("GET", "/v1/models", {}, None)).body
        (model,) = models["data"]
        limited = Reply({**models, "data": [{**model, "max_model_len": 200}]})
        smaller.script["GET", "/v1/models"] = lambda _: limited
        async with Reranker(
            base_url=[larger.url, smaller.url], tokenizer="demo", long_documents="passages"
        ) as reranker:
            await reranker.awarm_up()
            larger.first(Reply({"message": "out of memory"}, 500))
            (hit,) = await reranker.arerank(QUERY, [HIDDEN])
    assert hit.truncated


async def test_a_server_without_a_tokenizer_is_an_error() -> None:
    with ScriptedServer() as server:
        async with Reranker(base_url=server.url, long_documents="passages") as reranker:
            with pytest.raises(InputError, match="not on this machine: give tokenizer="):
                await reranker.arerank(QUERY, [HIDDEN])
