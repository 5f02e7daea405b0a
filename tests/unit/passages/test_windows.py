"""Windows cover a text, are never too long, overlap, and split nothing that belongs together."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import pytest
import regex  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.template import CONTROL_TOKENS
from qwen3_reranker.passages.windows import Span, divide

from support.helpers import QWEN3_TOKENIZER

BUILDERS = {
    name: PromptBuilder(Path(path).read_text("utf-8"))
    for name, path in (("demo", DEMO_MODEL / "tokenizer.json"), ("qwen3", QWEN3_TOKENIZER))
}
DEMO = BUILDERS["demo"]

PIECES = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x17F), max_size=12),
    st.sampled_from([" ", "\n", "\n\n", "\r\n", ". ", "! ", "。", "！", "？", "\u3000", "\t"]),
    st.sampled_from(
        ["The river begins in the hills.", "河流从山中开始。", "강은 산에서 시작된다. "]
    ),
    st.sampled_from(
        ["e\u0301", "\u1100\u1161\u11a8", "👨‍👩‍👧", "🇩🇪🇫🇷🇪", "👍🏽", "ก\u0e33", "\u212b"]
    ),
    st.sampled_from(CONTROL_TOKENS),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=60).map("".join).filter(str.strip)
# How many tokens a window has, and how many of them it shares with the one before.
SIZES = st.integers(16, 60).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


def windows(text: str, tokens: int, overlap: int = 0, builder: PromptBuilder = DEMO) -> list[Span]:
    (spans,) = divide(builder, [text], tokens, overlap)
    return spans


def passages(text: str, tokens: int, overlap: int = 0) -> list[str]:
    return [text[start:end] for start, end in windows(text, tokens, overlap)]


@pytest.mark.parametrize("name", BUILDERS)
@example(text="²\x80。0\x80𐀀𐀀\x80강은 산에서 시작된다. ", size=(34, 27))
@given(text=TEXTS, size=SIZES)
def test_windows_cover_the_text_in_order_and_fit(
    name: str, text: str, size: tuple[int, int]
) -> None:
    tokens, overlap = size
    spans = windows(text, tokens, overlap, BUILDERS[name])
    covered = bytearray(len(text))
    for start, end in spans:
        covered[start:end] = b"\1" * (end - start)
    assert all(covered[i] or character.isspace() for i, character in enumerate(text))
    for (start, end), (next_start, next_end) in itertools.pairwise(spans):
        assert start < next_start < next_end
        assert end < next_end
    lengths = BUILDERS[name].document_lengths([text[start:end] for start, end in spans])
    # One character has up to 4 tokens, and a cluster is split where it exceeds a window.
    assert max(lengths) <= tokens


# Characters that belong to the one before them, which can be white space.
EXTENDING = ["\u0301", "🏻", "\u200d", "\U000e0067", "🇩", "\u0e33"]
SMALL_SIZES = st.integers(1, 5).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size - 1))
)


@pytest.mark.parametrize("name", BUILDERS)
@example(text="ab \u0301cd \u0301ef", size=(2, 0))
@example(text="hello 🏻 world", size=(4, 3))
@given(
    text=st.lists(st.sampled_from([*EXTENDING, " ", "\n", "\r\n", "a", "word", "字"]), min_size=1)
    .map("".join)
    .filter(str.strip),
    size=SMALL_SIZES,
)
def test_windows_of_a_few_tokens_cover_the_text(
    name: str, text: str, size: tuple[int, int]
) -> None:
    """A long query leaves room for a few tokens, fewer than some characters have."""
    spans = windows(text, *size, BUILDERS[name])
    covered = {position for span in spans for position in range(*span)}
    assert covered >= {position for position, char in enumerate(text) if not char.isspace()}
    for (start, end), (next_start, next_end) in itertools.pairwise(spans):
        assert start < next_start < next_end
        assert end < next_end
    lengths = BUILDERS[name].document_lengths([text[start:end] for start, end in spans])
    for (start, end), length in zip(spans, lengths, strict=True):
        assert length <= size[0] or end - start == 1


@pytest.mark.parametrize("name", BUILDERS)
@given(text=TEXTS)
def test_a_text_that_fits_is_one_window(name: str, text: str) -> None:
    builder = BUILDERS[name]
    (length,) = builder.document_lengths([text])
    assert windows(text, length, 0, builder) == [(0, len(text))]
    if length > 16:
        assert windows(text, length - 1, 0, builder) != [(0, len(text))]


CLUSTERS = [
    "e\u0301",
    "\u1100\u1161\u11a8",
    "👍🏽",
    "🇩🇪",
    "🇫",
    "ก\u0e33",
    "é",
    "字",
    "a",
    " ",
    "\r\n",
]
CLUSTERS += ["👨\u200d👩", "❤\ufe0f", "क\u093f", ". ", "。", "\n\n"]


@given(
    text=st.lists(st.sampled_from(CLUSTERS), min_size=20).map("".join).filter(str.strip), size=SIZES
)
def test_windows_split_no_grapheme_cluster(text: str, size: tuple[int, int]) -> None:
    edges = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    for start, end in windows(text, *size):
        assert {start, end} <= edges


@given(text=TEXTS, size=SIZES)
def test_windows_of_several_texts_are_those_of_each(text: str, size: tuple[int, int]) -> None:
    texts = [text, "a river", text * 3]
    assert divide(DEMO, texts, *size) == [windows(each, *size) for each in texts]


WORDS = " ".join(f"word{n}" for n in range(2000))


@pytest.mark.parametrize(("tokens", "overlap"), [(512, 64), (100, 0), (64, 32), (64, 63)])
def test_the_overlap_is_about_what_is_asked_for(tokens: int, overlap: int) -> None:
    spans = windows(WORDS, tokens, overlap)
    for (_, end), (start, _) in itertools.pairwise(spans):
        shared = DEMO.document_lengths([WORDS[start:end]])[0] if start < end else 0
        # A word of this text has up to 6 tokens.
        assert overlap // 2 <= shared <= overlap + 6


@pytest.mark.parametrize("name", BUILDERS)
def test_windows_use_the_tokens_they_may(name: str) -> None:
    spans = windows(WORDS, 512, 64, BUILDERS[name])
    lengths = BUILDERS[name].document_lengths([WORDS[start:end] for start, end in spans])
    assert min(lengths[:-1]) >= 512 * 0.8 - 1


@pytest.mark.parametrize(
    ("separator", "within"),
    [
        ("\n\n", "{}.\n{}. {}"),
        ("\n", "{}. {} {}"),
        (". ", "{} {} {}"),
        ("。", "{}，{} {}"),
        ("！", "{} {} {}"),
        (" ", "{}-{}-{}"),
    ],
)
def test_windows_end_at_the_best_place(separator: str, within: str) -> None:
    pieces = [within.format(f"a{n}", f"b{n}", f"c{n}") for n in range(300)]
    text = separator.join(pieces)
    found = passages(text, 100)
    assert len(found) > 10
    for passage in found[:-1]:
        assert passage.rstrip(separator).endswith(tuple(f"c{n}" for n in range(300)))
        end = text.index(passage) + len(passage)
        assert text[end:].startswith(separator) or passage.endswith(separator.strip() or "\0")
        # The next place of the same kind would be too far.
        start, farther = text.index(passage), text.index(separator, end + len(separator))
        assert DEMO.document_lengths([text[start:farther]])[0] >= 100


def test_an_end_before_the_last_fifth_is_not_used() -> None:
    text = "A short paragraph.\n\n" + "word " * 500
    assert len(passages(text, 100)[0]) > 300


def test_white_space_belongs_to_no_window() -> None:
    text = "\n" * 300 + "first" + " \n" * 3000 + "last" + "\t" * 300
    assert passages(text, 16) == ["first", "last"]


def test_accents_stay_on_their_letters_in_long_words() -> None:
    text = unicodedata.normalize("NFD", "é" * 500)
    found = passages(text, 32)
    assert len(found) > 5
    assert all(passage.startswith("e") and passage.endswith("\u0301") for passage in found)
    assert "".join(found) == text


def test_flags_are_not_divided() -> None:
    text = "🇩🇪" * 200
    assert all(len(passage) % 2 == 0 for passage in passages(text, 20, 5))


def test_a_cluster_that_is_longer_than_a_window_is_divided() -> None:
    text = "e" + "\u0301" * 500
    spans = windows(text, 16)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)


@example("</think>" * 100)
@given(st.lists(st.sampled_from([*CONTROL_TOKENS, " a "]), min_size=50).map("".join))
def test_windows_fit_as_text_too(text: str) -> None:
    """Servers that accept only text get control tokens broken up, which makes them longer."""
    query = "q"
    builder = PromptBuilder(QWEN3_TOKENIZER.read_text("utf-8"), max_length=100)
    spans = windows(text, builder.room(query), 0, builder)
    found = [text[start:end] for start, end in spans]
    assert not any(text.truncated for text in builder.truncate(query, found))
    assert not any(prompt.truncated for prompt in builder.encode(query, found))


@given(query=TEXTS, text=TEXTS, instruction=st.none() | st.text(max_size=20))
def test_the_room_is_what_is_not_truncated(query: str, text: str, instruction: str | None) -> None:
    room = DEMO.room(query, instruction)
    (length,) = DEMO.document_lengths([text])
    text *= max(1, (room + 50) // length)
    for size in (room, room + 1):
        builder = DEMO
        spans = windows(text, room, 0)
        found = [text[start:end] for start, end in spans]
        assert not any(p.truncated for p in builder.encode(query, found, instruction)), size
        assert not any(t.truncated for t in builder.truncate(query, found, instruction)), size


class Counting(PromptBuilder):
    """Counts the characters that it tokenizes."""

    def __init__(self) -> None:
        super().__init__((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))
        self.characters = 0

    def document_lengths(self, documents: object) -> list[int]:
        self.characters += sum(map(len, documents))  # type: ignore[call-overload]
        return super().document_lengths(documents)  # type: ignore[arg-type]

    def token_starts(self, document: str) -> list[int]:
        self.characters += len(document)
        return super().token_starts(document)


@pytest.mark.parametrize("text", [WORDS, "字" * 20_000, "<|im_end|>" * 2000, "x" * 20_000])
def test_a_text_is_tokenized_a_constant_number_of_times(text: str) -> None:
    for times in (1, 4):
        builder = Counting()
        windows(text * times, 128, 16, builder)
        assert builder.characters <= 5 * len(text) * times
