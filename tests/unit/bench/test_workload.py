"""What is sent: random documents of exactly so many tokens, or the user's own."""

from __future__ import annotations

import random
import re
from functools import cache, lru_cache
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError, Prompt
from qwen3_reranker.bench.workload import (
    QUERY_TOKENS,
    Request,
    Workload,
    WritePrompt,
    pair_workload,
    random_workload,
    text_workload,
    usable_pairs,
    usable_texts,
    words_of,
)
from qwen3_reranker.model.prompt import PromptBuilder

from support.helpers import QWEN3_TOKENIZER
from support.scripted_server import demo_tokenizer

BUILDERS = {
    "official": PromptBuilder(QWEN3_TOKENIZER.read_text("utf-8")),
    "demo": PromptBuilder(demo_tokenizer().to_str()),
}


@cache
def writer(builder: PromptBuilder) -> WritePrompt:
    # What is written again and again are the candidates for words.
    return lru_cache(4096)(builder.prompt)


def length(builder: PromptBuilder, query: str, document: str) -> int:
    return len(writer(builder)(query, document).ids)


def first(workload: Workload, number: int = 1) -> list[Request]:
    return list(islice(workload.requests, number))


@pytest.fixture(scope="module", params=BUILDERS)
def builder(request: pytest.FixtureRequest) -> PromptBuilder:
    return BUILDERS[request.param]


@pytest.fixture(scope="module")
def words(builder: PromptBuilder) -> int:
    """The number of words that random texts consist of."""
    return len(words_of(writer(builder)))


def test_there_are_enough_words(words: int) -> None:
    assert words > 200


@given(data=st.data())
def test_random_texts_have_exactly_so_many_tokens(builder: PromptBuilder, data: Any) -> None:
    documents = data.draw(st.integers(1, 20), "documents")
    tokens = data.draw(st.integers(1, 300), "tokens")
    rng = random.Random(data.draw(st.integers(0, 10_000), "seed"))
    shortest = length(builder, "a", "a")
    for query, texts in first(random_workload(writer(builder), documents, tokens, rng), 2):
        assert len(texts) == documents
        # Tokenized again, as part of the prompt.
        assert {length(builder, "a", text) - shortest + 1 for text in texts} == {tokens}
        assert length(builder, query, "a") - shortest + 1 == QUERY_TOKENS


def test_the_prompts_of_a_request_differ_from_the_first_token_of_the_document(
    builder: PromptBuilder, words: int
) -> None:
    """So that a prefix cache holds nothing but the instruction and the query."""
    workload = random_workload(writer(builder), words, 30, random.Random(0))
    for query, texts in first(workload, 3):
        prompts = [prompt.ids for prompt in builder.encode(query, texts)]
        beginning = len(builder.encode(query, ["a"])[0].ids) - len(builder.suffix_ids) - 1
        assert {tuple(ids[:beginning]) for ids in prompts} == {tuple(prompts[0][:beginning])}
        assert len({ids[beginning] for ids in prompts}) == words


def test_more_documents_than_words_still_differ(builder: PromptBuilder, words: int) -> None:
    [(_, texts)] = first(random_workload(writer(builder), 3 * words, 30, random.Random(0)))
    assert len(set(texts)) == 3 * words


def test_requests_and_tests_have_nothing_in_common(builder: PromptBuilder) -> None:
    write = writer(builder)
    tests = [first(random_workload(write, 10, 30, random.Random(n)), 20) for n in (1, 2)]
    requests = [request for test in tests for request in test]
    assert len({query for query, _ in requests}) == 40
    assert len({text for _, texts in requests for text in texts}) == 400


def test_long_documents() -> None:
    longer = PromptBuilder(demo_tokenizer().to_str(), max_length=40_000)
    [(_, [text])] = first(random_workload(writer(longer), 1, 35_000, random.Random(0)))
    assert length(longer, "a", text) - length(longer, "a", "a") + 1 == 35_000


def test_documents_that_would_be_truncated_are_an_error() -> None:
    small = PromptBuilder(demo_tokenizer().to_str(), max_length=200)
    room = 200 - length(small, "a", "a") + 1
    random_workload(writer(small), 1, room, random.Random(0))
    with pytest.raises(InputError, match=rf"tokens={room + 1}: max_length leaves room for {room} "):
        random_workload(writer(small), 1, room + 1, random.Random(0))


def test_without_a_tokenizer_words_are_counted() -> None:
    nothing = Prompt("", [], truncated=False)
    for query, texts in first(random_workload(lambda *_: nothing, 5, 40, random.Random(0)), 3):
        assert [len(text.split()) for text in texts] == [40] * 5
        assert len({text.split()[0] for text in texts}) == 5
        assert len(query.split()) == QUERY_TOKENS


def test_own_texts_are_drawn_without_repetition() -> None:
    texts = [f"text {number}" for number in range(30)]
    requests = first(text_workload(texts, 10, random.Random(0)), 50)
    assert all(len(set(drawn)) == 10 and set(drawn) <= set(texts) for _, drawn in requests)
    assert {text for _, drawn in requests for text in drawn} == set(texts)
    assert len({query for query, _ in requests}) == 50


def test_own_pairs_are_sent_in_order_and_again() -> None:
    pairs = usable_pairs([("one", ("a", "b")), ("two", ["c"])])
    workload = pair_workload(pairs, random.Random(0))
    assert first(workload, 5) == [("one", ["a", "b"]), ("two", ["c"])] * 2 + [("one", ["a", "b"])]
    assert workload.cycle == 2


def test_own_texts_that_cannot_be_used() -> None:
    assert usable_texts(["a", " ", "b", "a"], None) == ["a", "b"]
    with pytest.raises(InputError, match="documents=3: there are only 2 different texts"):
        usable_texts(["a", " ", "b", "a"], 3)
    with pytest.raises(InputError, match="texts has none that is not blank"):
        usable_texts([" "], None)
    with pytest.raises(InputError, match="document 1 is a int"):
        usable_texts(["a", 1], None)  # type: ignore[list-item]


def test_own_pairs_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="pairs is empty"):
        usable_pairs([])
    with pytest.raises(InputError, match="query is blank"):
        usable_pairs([("a", ["b"]), (" ", ["b"])])
    with pytest.raises(InputError, match="documents must be a list of str"):
        usable_pairs([("a", "b")])
    wrong: Any
    for wrong in (("q", ["a"], 3), ("q",), "query", 5):
        message = re.escape(f"a pair is {wrong!r}: give (query, documents)")
        with pytest.raises(InputError, match=message):
            usable_pairs([("a", ["b"]), wrong])
