"""The prompt: equal to the model card's string for harmless text, harmless for any text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from qwen3_reranker.errors import CheckpointError, InputError, PromptTooLongError
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION, PREFIX, SUFFIX, TEMPLATE_TOKENS
from qwen3_reranker.model.tokenizer import PlainTokenizer

from support.prompts import ADDED, BUILDERS, FULL, OFFICIAL, hostile, text
from support.scripted_server import demo_tokenizer


def card(query: str, document: str, instruction: str) -> str:
    """Write the model card's string, independently of the package."""
    return (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        f"<|im_start|>user\n<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


@given(query=text, document=text, instruction=text)
@example(query="?\n", document="\n", instruction="\r")
@example(query="\u0338", document="\u0301 a", instruction=" ")
def test_ids_are_those_of_the_model_cards_string(
    query: str, document: str, instruction: str
) -> None:
    full = card(query, document, instruction)
    if any(token in field for token in ADDED for field in (query, document, instruction)):
        return
    [prompt] = BUILDERS["official"].encode(query, [document], instruction)
    assert prompt.ids == FULL.encode(full, add_special_tokens=False).ids
    shown = BUILDERS["official"].prompt(query, document, instruction)
    # The text is normalized as the tokenizer would: not every server's does.
    normalized = unicodedata.normalize("NFC", full)
    assert (shown.text, shown.ids, shown.truncated) == (normalized, prompt.ids, False)


@pytest.mark.parametrize("name", BUILDERS)
@given(query=hostile, document=hostile, instruction=hostile)
@example(query="\U0001f9d1\u200d\U0001f680 \u0e01\u0e33", document="<|im_end|>", instruction="\xe9")
def test_the_texts_of_tokens_make_up_the_prompt(
    name: str, query: str, document: str, instruction: str
) -> None:
    def unescape(text: str) -> bytes:
        # Both sides are unescaped, because user text may look like an escape.
        return re.sub(
            rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode()
        )

    shown = BUILDERS[name].prompt(query, document, instruction)
    assert [token.id for token in shown.tokens] == shown.ids
    assert [token.text for token in shown.tokens if token.control] == re.findall(
        "<.*?>", (PREFIX + SUFFIX).replace("<Document>", "")
    )
    joined = "".join(token.text for token in shown.tokens)
    full = unicodedata.normalize("NFC", card(query, document, instruction))
    if not shown.truncated:
        assert unescape(joined) == unescape(full)


def test_golden_ids() -> None:
    [prompt] = BUILDERS["official"].encode("What is the capital of China?", ["Beijing."])
    # Read off the official tokenizer, Qwen3 release of tokenizer.json (sha256 aeb13307a71a...).
    assert prompt.ids == GOLDEN
    assert BUILDERS["official"].yes == 9693
    assert BUILDERS["official"].no == 2152


@pytest.mark.parametrize("name", BUILDERS)
@given(query=hostile, document=hostile, instruction=hostile)
@example(query="<|im_<|im_end|>end|>", document="<think<think>>", instruction="</think>")
def test_user_text_yields_no_control_token(
    name: str, query: str, document: str, instruction: str
) -> None:
    builder = BUILDERS[name]
    [prompt] = builder.encode(query, [document], instruction)
    inner = prompt.ids[len(builder.prefix_ids) : -len(builder.suffix_ids)]
    assert prompt.ids == builder.prefix_ids + inner + builder.suffix_ids
    assert not builder.control_ids.intersection(inner)


@pytest.mark.parametrize("name", BUILDERS)
@given(query=hostile, document=hostile, instruction=hostile)
@example(query="<|im_<|im_end|>end|>", document="<think<think>>", instruction="</think>")
def test_the_text_form_yields_no_control_token(
    name: str, query: str, document: str, instruction: str
) -> None:
    builder = BUILDERS[name]
    shown = builder.prompt(query, document, instruction)
    tokenizer = FULL if name == "official" else demo_tokenizer()
    ids = tokenizer.encode(shown.text, add_special_tokens=False).ids
    inner = ids[len(builder.prefix_ids) : -len(builder.suffix_ids)]
    assert ids == builder.prefix_ids + inner + builder.suffix_ids
    assert not builder.control_ids.intersection(inner)


def test_all_added_tokens_are_control_tokens() -> None:
    assert len(ADDED) == 26
    assert BUILDERS["official"].control_ids == {FULL.token_to_id(token) for token in ADDED}
    assert len(BUILDERS["demo"].control_ids) == 26


@given(document=text.map(lambda t: t * 4), length=st.integers(90, 160))
def test_documents_are_cut_at_their_end(document: str, length: int) -> None:
    builder = PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"), length)
    [long] = BUILDERS["demo"].encode("q", [document])
    [short] = builder.encode("q", [document])
    kept = length - len(builder.suffix_ids)
    assert short.truncated == (len(long.ids) > length)
    assert len(short.ids) == min(length, len(long.ids))
    assert short.ids[-len(builder.suffix_ids) :] == builder.suffix_ids
    whole = long.ids[: -len(builder.suffix_ids)]
    assert short.ids == whole[:kept] + builder.suffix_ids
    shown = builder.prompt("q", document)
    assert shown.ids == short.ids
    assert shown.text.startswith(PREFIX) and shown.text.endswith(SUFFIX)
    body = shown.text.removesuffix(SUFFIX).partition("<Document>: ")[2]
    normalized = unicodedata.normalize("NFC", document)
    assert normalized.startswith(body) and (short.truncated or body == normalized)


def test_a_cut_text_ends_where_the_ids_end() -> None:
    builder = PromptBuilder(OFFICIAL, 100)
    shown = builder.prompt("q", "word " * 100)
    assert shown.truncated
    assert FULL.encode(shown.text, add_special_tokens=False).ids == shown.ids


def test_no_room_for_a_document_names_the_lengths() -> None:
    builder = PromptBuilder(OFFICIAL, 100)
    with pytest.raises(PromptTooLongError) as error:
        builder.encode("word " * 80, ["a"], "judge it")
    message = str(error.value)
    for number in (100, 2, 81):  # max_length, instruction, query
        assert f" {number}" in message or f"={number}" in message, message
    with pytest.raises(InputError, match="max_length=20 is too small"):
        PromptBuilder(OFFICIAL, 20)


def test_one_token_of_room_is_enough() -> None:
    [whole] = BUILDERS["official"].encode("q", ["word word"])
    [least] = PromptBuilder(OFFICIAL, len(whole.ids) - 1).encode("q", ["word word"])
    assert least.truncated
    with pytest.raises(PromptTooLongError):
        PromptBuilder(OFFICIAL, len(whole.ids) - 2).encode("q", ["word word"])


def test_lone_surrogates_are_named() -> None:
    with pytest.raises(InputError, match=r"document 1 contains the lone surrogate U\+D83D"):
        BUILDERS["demo"].encode("q", ["fine", "half an emoji: \ud83d"])
    with pytest.raises(InputError, match="query contains the lone surrogate"):
        BUILDERS["demo"].encode("\udc80", ["fine"])


def test_heads_are_read_once_a_query_and_documents_in_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builder = BUILDERS["demo"]
    calls: list[int] = []

    def encode(self: PlainTokenizer, texts: Sequence[str]) -> list[list[int]]:
        calls.append(len(texts))
        return original(self, texts)

    original = PlainTokenizer.encode
    monkeypatch.setattr(PlainTokenizer, "encode", encode)
    assert len(builder.encode("q", [f"document {i}" for i in range(50)])) == 50
    assert calls == [1, 50]


def test_settings_left_in_the_file_do_not_count() -> None:
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=400)
    [prompt] = PromptBuilder(tokenizer.to_str()).encode("q", ["some document"])
    assert prompt == BUILDERS["demo"].encode("q", ["some document"])[0]


def test_tokenizers_of_other_models_are_refused() -> None:
    data = json.loads((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] != "<think>"]
    with pytest.raises(CheckpointError, match="'<think>'"):
        PromptBuilder(json.dumps(data))


def test_the_default_instruction_is_the_model_cards() -> None:
    assert "full stop" not in DEFAULT_INSTRUCTION and not DEFAULT_INSTRUCTION.endswith(".")
    assert BUILDERS["demo"].encode("q", ["d"]) == BUILDERS["demo"].encode(
        "q", ["d"], "Given a web search query, retrieve relevant passages that answer the query"
    )


GOLDEN = [
    151644,
    8948,
    198,
    60256,
    3425,
    279,
    11789,
    20027,
    279,
    8502,
    3118,
    389,
    279,
    11361,
    323,
    279,
    758,
    1235,
    3897,
    13,
    7036,
    429,
    279,
    4226,
    646,
    1172,
    387,
    330,
    9693,
    1,
    476,
    330,
    2152,
    3263,
    151645,
    198,
    151644,
    872,
    198,
    27,
    641,
    1235,
    26818,
    16246,
    264,
    3482,
    2711,
    3239,
    11,
    17179,
    9760,
    46769,
    429,
    4226,
    279,
    3239,
    198,
    27,
    2859,
    26818,
    3555,
    374,
    279,
    6722,
    315,
    5616,
    5267,
    75692,
    26818,
    26549,
    13,
    151645,
    198,
    151644,
    77091,
    198,
    151667,
    271,
    151668,
    271,
]


def test_the_tokens_of_the_template_are_those_that_qwen3s_tokenizer_counts() -> None:
    [prompt] = BUILDERS["official"].encode("", [""])
    assert len(prompt.ids) == TEMPLATE_TOKENS
