"""Which texts count as the same: compared with a definition that compares every pair."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_reranker.near_duplicates import TextIndex
from qwen3_reranker.words import normalized_words, part_ends, word_ends

# Few different words, so that texts share sequences of them.
vocabulary = st.lists(st.sampled_from(["a", "b", "c"]), max_size=14).map(" ".join)
similarities = st.sampled_from([0.1, 0.5, 0.55, 0.8, 1.0]) | st.floats(0.01, 1)


def are_duplicates(one: str, other: str, similarity: float) -> bool:
    """The definition."""
    words = normalized_words(one), normalized_words(other)
    if not all(words) or words[0] == words[1]:
        return all(words)
    first, second = ({tuple(w[n : n + 5]) for n in range(len(w) - 4)} for w in words)
    shorter = min(len(first), len(second))
    return shorter > 0 and len(first & second) >= math.ceil(similarity * shorter - 1e-9)


@given(st.lists(vocabulary, max_size=12), similarities)
@example(["a b c a b", "a b c a b c c c c c c"], 1.0)
def test_the_index_finds_what_a_comparison_of_all_pairs_finds(
    texts: list[str], similarity: float
) -> None:
    index = TextIndex(similarity)
    kept: list[str] = []
    for text in texts:
        fresh = not any(are_duplicates(text, other, similarity) for other in kept)
        assert index.add(text) is fresh
        if fresh:
            kept.append(text)


CHUNK = "The quick brown fox jumps over the lazy dog while the small cat sleeps in the warm sun"


@pytest.mark.parametrize(
    "twin",
    [
        CHUNK.upper() + "!",
        CHUNK.replace(" ", "\n\t "),
        CHUNK.replace("quick", "\uff51uick"),  # a full-width letter
        f"- {CHUNK.replace(' fox', ', fox')} -",
        CHUNK + " today",
        f"Yesterday, {CHUNK}.",
        CHUNK.partition(" warm")[0],
        " ".join(["Some words before it."] * 20 + [CHUNK] + ["And after it."] * 20),
    ],
)
def test_near_duplicates(twin: str) -> None:
    for first, second in ((CHUNK, twin), (twin, CHUNK)):
        index = TextIndex(0.8)
        assert [index.add(first), index.add(second)] == [True, False]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CHUNK, " ".join(CHUNK.split()[8:] + ["and", "another", "fox", "runs", "through", "it"])),
        ("C is a language", "C++ is a language"),
        ("C", "C#"),
        ("5 degrees", "-5 degrees"),
        ("50 %", "50"),
        ("\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"),
        ("?", "!"),
        ("猫が好きです。犬も好きです。", "雨が降るので家に帰ります。"),
        ("", ""),
        (" ", "\n"),
    ],
)
def test_different_texts_and_blank_ones_are_kept(one: str, other: str) -> None:
    index = TextIndex(0.8)
    assert index.add(one) and index.add(other)


def test_a_share_is_reached_exactly() -> None:
    """Of 25 sequences of five words 14 are equal, and 0.56 * 25 is above 14 in floating point."""
    words = [f"word{n}" for n in range(29)]
    one, other = " ".join(words), " ".join(words[:18] + [f"other{n}" for n in range(11)])
    for similarity, kept in ((0.56, False), (0.57, True)):
        index = TextIndex(similarity)
        assert [index.add(one), index.add(other)] == [True, kept]


def test_characters_are_words_in_scripts_without_spaces() -> None:
    index = TextIndex(0.8)
    text = "北京是中华人民共和国的首都，也是全国的政治中心、文化中心。"
    assert index.add(text)
    assert not index.add("众所周知，" + text)
    assert normalized_words("Hello, 世界!") == ["hello", "世", "界"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_thousands_of_texts_with_common_boilerplate_take_seconds() -> None:
    """It takes 3 seconds; to compare all 50,000,000 pairs would take several minutes."""
    boilerplate = " ".join(f"boilerplate{n}" for n in range(40))
    texts = [
        f"{boilerplate} {' '.join(f'{number}x{n}' for n in range(60))}" for number in range(10_000)
    ]
    index = TextIndex(0.8)
    assert all(map(index.add, texts))
    assert not any(map(index.add, texts[::100]))


@given(st.text(st.sampled_from("ab1 .-\n\u0301\u4e2d\u0e01\u0e31"), max_size=30))
def test_cuts_are_at_the_ends_of_words_and_keep_accents(text: str) -> None:
    for end in word_ends(text):
        assert not text[end - 1].isspace() and 0 < end <= len(text)
        assert text[end : end + 1] not in ("\u0301", "\u0e31")
        assert not (text[end - 1 : end + 1].isascii() and text[end - 1 : end + 1].isalnum()) or (
            end == len(text)
        )
    if text.strip():
        assert word_ends(text)[-1] == len(text.rstrip())
        assert part_ends(text)[-1] == word_ends(text)[0]
