"""The token ids of plain text: from tiktoken where possible, always those of `tokenizers`."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken import Encoding
from tokenizers import Tokenizer

from qwen3_reranker.model import tokenizer as tokens
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.tokenizer import PlainTokenizer, read_tokenizer

from support.helpers import QWEN3_TOKENIZER


def content(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text)
    data["added_tokens"] = []
    data["truncation"] = data["padding"] = None
    return data


DATA = {
    "official": content(QWEN3_TOKENIZER.read_text("utf-8")),
    "demo": content((DEMO_MODEL / "tokenizer.json").read_text("utf-8")),
}
COMMON = [chr(c) for c in range(0x10000) if tokens._COMMON.fullmatch(chr(c))]

common = st.lists(
    st.one_of(
        st.sampled_from(
            ["'", "'s", "'LL", " ", "  ", "\n", "\r\n", " \n ", "\t", "12", "word", "中"]
        ),
        st.sampled_from(COMMON),
        st.text(st.characters(max_codepoint=126, min_codepoint=32)),
    ),
    max_size=40,
).map("".join)
texts = st.lists(st.one_of(common, st.text(), st.just("a\x00b"), st.just("\x00")), max_size=6)


@cache
def exact(name: str) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(DATA[name]))


@cache
def plain_tokenizer(name: str) -> PlainTokenizer:
    return PlainTokenizer(DATA[name])


def expected(name: str, given: list[str]) -> list[list[int]]:
    return [exact(name).encode(text, add_special_tokens=False).ids for text in given]


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_every_common_character_is_read_as_tokenizers_does(name: str) -> None:
    assert plain_tokenizer(name).uses_tiktoken
    assert len(COMMON) > 32_000
    around = [
        f"{c}|a{c}b {c}1{c}{c} .{c}, {c} \n{c}\n {c} '{c}x {c}s{c}\r\n  {c}{c}e" for c in COMMON
    ]
    assert plain_tokenizer(name).encode(around) == expected(name, around)


@pytest.mark.parametrize("name", DATA)
@given(given=texts)
def test_all_texts_are_read_as_tokenizers_does(name: str, given: list[str]) -> None:
    assert plain_tokenizer(name).encode(given) == expected(name, given)


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_long_runs(name: str) -> None:
    for run in (" ", "a", "ab", "=", "\n", "'", "1", " x", "中"):
        for text in (run * (65_536 // len(run)), run * 40_000 + "x", "x" + run * 70_000):
            assert plain_tokenizer(name).encode([text, "x"]) == expected(name, [text, "x"])


def test_common_texts_are_left_to_tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = plain_tokenizer("official")
    fast: list[str] = []
    original = Encoding.encode

    def encode(self: Encoding, text: str, **options: Any) -> list[int]:
        fast.extend(text.split("\x00"))
        return original(self, text, **options)

    monkeypatch.setattr(Encoding, "encode", encode)
    given = ["Plain.", "e\u0301", "Größe: 中文", "\u0e01", "x" * 70_000, ""]
    assert plain.encode(given) == expected("official", given)
    assert fast == ["Plain.", "Größe: 中文", ""]


@pytest.mark.slow
def test_the_known_merges_pass_the_test_that_they_are_spared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tokens.digest(DATA["official"]["model"]["merges"]) == tokens._KNOWN
    monkeypatch.setattr(tokens, "_KNOWN", "")
    assert PlainTokenizer(DATA["official"]).uses_tiktoken


def changed(**model: Any) -> dict[str, Any]:
    """Return a tokenizer of bytes, with other settings of the model."""
    demo = DATA["demo"]
    single = {token: n for token, n in demo["model"]["vocab"].items() if len(token) == 1}
    bytes_only = {letter: n for n, letter in enumerate(sorted(single, key=single.__getitem__))}
    vocabulary = bytes_only | {
        "".join(merge): 256 + n for n, merge in enumerate(model.get("merges", ()))
    }
    return demo | {"model": demo["model"] | {"vocab": vocabulary, "merges": []} | model}


@pytest.mark.parametrize(
    "data",
    [
        # "bc" is merged before "ab" can be, so "abc" is never made; tiktoken would find it whole.
        changed(merges=[["b", "c"], ["a", "b"], ["ab", "c"]]),
        # Two ways to one token, and a numbering that is not the order of the merges.
        changed(merges=[["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]]),
        changed(
            merges=[["a", "b"], ["b", "c"]],
            vocab=changed(merges=[["b", "c"], ["a", "b"]])["model"]["vocab"],
        ),
        changed(merges=[["a", "b"]], ignore_merges=True),
        # 256 letters, of which one stands for no byte.
        changed(vocab={"中" if t == "z" else t: n for t, n in changed()["model"]["vocab"].items()}),
        # Two letters have the same number, for which tiktoken panics.
        changed(vocab=changed()["model"]["vocab"] | {"z": changed()["model"]["vocab"]["y"]}),
        # As older files have it, without the kind of model.
        DATA["demo"] | {"model": {k: v for k, v in DATA["demo"]["model"].items() if k != "type"}},
        DATA["demo"] | {"normalizer": {"type": "NFKC"}},
        DATA["demo"] | {"pre_tokenizer": DATA["demo"]["pre_tokenizer"]["pretokenizers"][1]},
    ],
)
def test_tokenizers_of_which_it_is_not_certain_are_left_alone(data: dict[str, Any]) -> None:
    plain = PlainTokenizer(data)
    assert not plain.uses_tiktoken
    exact = Tokenizer.from_str(json.dumps(data))
    given = ["abc", "abcabc ab bc", "ﬁne", "don't"]
    assert plain.encode(given) == [exact.encode(t, add_special_tokens=False).ids for t in given]


def test_an_equal_tokenizer_with_few_merges_is_taken() -> None:
    data = changed(merges=[["a", "b"], ["b", "c"], ["ab", "c"]])
    exact = Tokenizer.from_str(json.dumps(data))
    plain = PlainTokenizer(data)
    assert plain.uses_tiktoken
    given = ["abc", "bcabc", "ababcbc"]
    assert plain.encode(given) == [exact.encode(t, add_special_tokens=False).ids for t in given]


def test_a_tokenizer_is_read_once() -> None:
    path = DEMO_MODEL / "tokenizer.json"
    assert read_tokenizer(path.read_text("utf-8")) is read_tokenizer(path.read_text("utf-8"))
