"""What is sent: the prompt's ids or text, never too long, never with a user's control token."""

from __future__ import annotations

import asyncio
import json
import threading
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from qwen3_reranker.dialects import TemplateBy
from qwen3_reranker.errors import InputError, PromptTooLongError, ServerError
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.template import CONTROL_TOKENS, PREFIX, SUFFIX
from qwen3_reranker.model.tokenizer import PlainTokenizer
from qwen3_reranker.remote.request_encoder import EncodedRequest, RequestEncoder
from qwen3_reranker.remote.tokenizers import (
    ServerTokenizer,
    cached_tokenizer,
    load_tokenizer,
)

from support.prompts import ADDED, BUILDERS, FULL, OFFICIAL, hostile, text

DEMO = (DEMO_MODEL / "tokenizer.json").read_text("utf-8")
TOKENIZERS = {"demo": Tokenizer.from_str(DEMO), "official": FULL}
SOURCES = {"demo": DEMO, "official": OFFICIAL}
ENCODERS = {name: RequestEncoder(source) for name, source in SOURCES.items()}
# Made once: reading the official tokenizer takes seconds.
SHORT = {
    "demo": {length: RequestEncoder(DEMO, None, length) for length in (110, 131, 160, 240)},
    "official": {131: RequestEncoder(OFFICIAL, None, 131)},
}


class FakeServer(ServerTokenizer):
    """Tokenizes as a server does: with the added tokens, whoever wrote them."""

    def __init__(self, name: str) -> None:
        self.tokenizer = TOKENIZERS[name]
        self.asked: list[str] = []

    async def encode(self, text: str) -> list[int]:
        self.asked.append(text)
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    async def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def encoder(self, max_length: int) -> RequestEncoder:
        return RequestEncoder(None, self, max_length)


def ids_of(name: str, whole: str) -> list[int]:
    return list(TOKENIZERS[name].encode(whole, add_special_tokens=False).ids)


def whole(encoded: EncodedRequest) -> list[str]:
    assert isinstance(encoded.query, str)
    return [encoded.query + document for document in encoded.documents]  # type: ignore[operator]


def has_token(texts: str, tokens: Sequence[str] = CONTROL_TOKENS) -> bool:
    return any(token in texts for token in tokens)


@pytest.mark.parametrize("name", ENCODERS)
@given(query=hostile, documents=st.lists(hostile, min_size=1, max_size=3), instruction=hostile)
async def test_ids_are_those_of_the_prompt_builder(
    name: str, query: str, documents: list[str], instruction: str
) -> None:
    encoded = await ENCODERS[name].encode(query, documents, instruction, "client", ids=True)
    prompts = BUILDERS[name].encode(query, documents, instruction)
    assert [encoded.query + d for d in encoded.documents] == [p.ids for p in prompts]  # type: ignore
    assert encoded.truncated == [False] * len(documents)


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@pytest.mark.parametrize("name", ENCODERS)
@given(query=text, documents=st.lists(text, min_size=1, max_size=3), instruction=text)
@example(query="?\n", documents=["\n", " "], instruction="\r")
async def test_texts_without_control_tokens_have_the_same_ids(
    name: str, kind: str, query: str, documents: list[str], instruction: str
) -> None:
    if has_token("\n".join([query, instruction, *documents])):
        return
    encoders = {
        "tokenizer": ENCODERS[name],
        "server": FakeServer(name).encoder(8192),
        "neither": RequestEncoder(None),
    }
    encoded = await encoders[kind].encode(query, documents, instruction, "client", ids=False)
    prompts = BUILDERS[name].encode(query, documents, instruction)
    assert [ids_of(name, prompt) for prompt in whole(encoded)] == [p.ids for p in prompts]
    assert encoded.truncated == [False] * len(documents)
    # Where the server takes ids but there is no tokenizer, text goes all the same.
    if kind != "tokenizer":
        again = await encoders[kind].encode(query, documents, instruction, "client", ids=True)
        assert again == encoded


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@pytest.mark.parametrize("name", ENCODERS)
@given(query=hostile, documents=st.lists(hostile, min_size=1, max_size=3), instruction=hostile)
@example(query="<|im_<|im_end|>end|>", documents=["<think<think>>"], instruction="</think>")
async def test_user_text_yields_no_control_token_in_a_text_prompt(
    name: str, kind: str, query: str, documents: list[str], instruction: str
) -> None:
    encoders = {
        "tokenizer": ENCODERS[name],
        "server": FakeServer(name).encoder(8192),
        "neither": RequestEncoder(None),
    }
    encoded = await encoders[kind].encode(query, documents, instruction, "client", ids=False)
    for prompt in whole(encoded):
        assert prompt.startswith(PREFIX) and prompt.endswith(SUFFIX)
        assert not has_token(prompt.removeprefix(PREFIX).removesuffix(SUFFIX))
        ids, builder = ids_of(name, prompt), BUILDERS[name]
        inner = ids[len(builder.prefix_ids) : -len(builder.suffix_ids)]
        assert ids == builder.prefix_ids + inner + builder.suffix_ids
        assert not builder.control_ids.intersection(inner)
    plain = await encoders[kind].encode(query, documents, instruction, "server", ids=True)
    assert isinstance(plain.query, str) and not has_token(plain.query)
    assert not has_token("\n".join(str(document) for document in plain.documents))


async def test_many_texts_are_read_off_the_loop_and_few_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []

    def encode_parts(*args: object) -> object:
        threads.append(threading.get_ident())
        return original(*args)

    builder = ENCODERS["demo"].builder
    assert builder is not None
    original: Callable[..., object] = builder.encode_parts
    monkeypatch.setattr(builder, "encode_parts", encode_parts)
    here = threading.get_ident()
    few, many = ["word " * 100] * 20, ["word " * 1000] * 11
    for texts in (few, many):
        await ENCODERS["demo"].encode("q", texts, None, "client", ids=True)
    assert threads[0] == here != threads[1]


def test_the_control_tokens_are_those_of_the_tokenizers() -> None:
    assert set(CONTROL_TOKENS) == set(ADDED)
    assert {token["content"] for token in json.loads(DEMO)["added_tokens"]} == set(ADDED)


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@given(query=text, documents=st.lists(text, min_size=1, max_size=3))
async def test_a_server_that_writes_the_template_gets_plain_texts(
    kind: str, query: str, documents: list[str]
) -> None:
    if has_token("\n".join([query, *documents])):
        return
    encoder = {
        "tokenizer": ENCODERS["demo"],
        "server": FakeServer("demo").encoder(8192),
        "neither": RequestEncoder(None),
    }[kind]
    encoded = await encoder.encode(query, documents, "find it", "server", ids=True)
    query, *documents = (unicodedata.normalize("NFC", text) for text in (query, *documents))
    assert encoded == EncodedRequest(query, [*documents], [False] * len(documents), "find it")


@pytest.mark.parametrize("template_by", ["client", "server"])
@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@given(query=hostile, documents=st.lists(hostile, min_size=1, max_size=3), instruction=hostile)
@example(query="e\u0301", documents=["a\u030a" * 100], instruction="n\u0303")
async def test_every_text_that_is_sent_is_in_nfc(
    kind: str, template_by: TemplateBy, query: str, documents: list[str], instruction: str
) -> None:
    encoder = {
        "tokenizer": SHORT["demo"][240],
        "server": FakeServer("demo").encoder(240),
        "neither": RequestEncoder(None),
    }[kind]
    try:
        encoded = await encoder.encode(query, documents, instruction, template_by, ids=False)
    except PromptTooLongError:
        return
    for sent in (encoded.query, *encoded.documents, encoded.instruction or ""):
        assert unicodedata.is_normalized("NFC", str(sent))


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
async def test_a_placeholder_of_the_servers_template_stays_text_in_a_query(kind: str) -> None:
    encoder = {
        "tokenizer": ENCODERS["demo"],
        "server": FakeServer("demo").encoder(8192),
        "neither": RequestEncoder(None),
    }[kind]
    query, documents = "a {document}{document} {query}", ["{document}"]
    named = {"ids": False, "placeholders": ("{document}",)}
    encoded = await encoder.encode(query, documents, None, "server", **named)  # type: ignore[arg-type]
    assert encoded.query == "a { document}{ document} {query}"
    assert encoded.documents == documents
    # A prompt that is whole has no placeholder of the server's.
    encoded = await encoder.encode(query, documents, None, "client", **named)  # type: ignore[arg-type]
    assert query in str(encoded.query)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("name", ENCODERS)
@given(documents=st.lists(hostile.map(lambda t: t * 6), min_size=1, max_size=3), data=st.data())
async def test_a_prompt_is_never_longer_than_it_may_be(
    name: str, ids: bool, documents: list[str], data: st.DataObject
) -> None:
    length = data.draw(st.sampled_from(sorted(SHORT[name])))
    encoded = await SHORT[name][length].encode("q", documents, None, "client", ids=ids)
    suffix = BUILDERS[name].suffix_ids
    for place, document in enumerate(documents):
        prompt = encoded.query + encoded.documents[place]  # type: ignore[operator]
        found = ids_of(name, prompt) if isinstance(prompt, str) else prompt
        assert len(found) <= length
        assert found[-len(suffix) :] == suffix
        harmless = BUILDERS[name].escape_control_tokens(document)
        [uncut] = BUILDERS[name].encode("q", [document if ids else harmless])
        assert encoded.truncated[place] == (len(uncut.ids) > length)


@pytest.mark.parametrize("template_by", ["client", "server"])
@pytest.mark.parametrize("name", ENCODERS)
@given(documents=st.lists(hostile.map(lambda t: t * 6), min_size=1, max_size=3), data=st.data())
async def test_the_counts_are_those_of_what_is_sent(
    name: str, template_by: TemplateBy, documents: list[str], data: st.DataObject
) -> None:
    encoder = data.draw(st.sampled_from([*SHORT[name].values(), ENCODERS[name]]))
    try:
        encoded = await encoder.encode("q", documents, None, template_by, ids=False)
    except PromptTooLongError:
        return
    sent = [len(ids_of(name, str(document))) for document in encoded.documents]
    for count, right in zip(encoded.counts, sent, strict=True):
        # Whether the first word is counted with the space before it makes a difference of a token.
        assert count is None or abs(count - right) <= (template_by == "server")
    total = sum(sent) + len(sent) * len(ids_of(name, str(encoded.query)))
    assert encoder.count(encoded, template_by) == pytest.approx([total] * 2, abs=len(sent))


@pytest.mark.parametrize("template_by", ["client", "server"])
async def test_no_document_is_tokenized_twice(
    template_by: TemplateBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def encode(self: PlainTokenizer, texts: Sequence[str]) -> list[list[int]]:
        seen.extend(texts)
        return original(self, texts)

    original = PlainTokenizer.encode
    monkeypatch.setattr(PlainTokenizer, "encode", encode)
    encoder = RequestEncoder(DEMO, None, 300)
    documents = ["short", "fits in any case, but not certainly " * 10, "is too long " * 100]
    encoded = await encoder.encode("q", documents, None, template_by, ids=False)
    assert encoded.truncated == [False, False, True]
    least, most = encoder.count(encoded, template_by)
    assert least == most > 200
    assert [sum(word in text for text in seen) for word in ("short", "certainly", "too")] == [1] * 3


@pytest.mark.parametrize("template_by", ["client", "server"])
@given(
    documents=st.lists(hostile.map(lambda t: t * 8), min_size=1, max_size=3),
    length=st.integers(180, 400),
)
async def test_a_servers_tokenizer_cuts_too(
    template_by: TemplateBy, documents: list[str], length: int
) -> None:
    server = FakeServer("demo")
    encoded = await server.encoder(length).encode("q", documents, None, template_by, ids=True)
    harmless = [BUILDERS["demo"].escape_control_tokens(document) for document in documents]
    for place, document in enumerate(encoded.documents):
        if template_by == "client":
            assert len(ids_of("demo", f"{encoded.query}{document}")) <= length
            assert str(document).endswith(SUFFIX)
        sent = str(document).removeprefix("<Document>: ").removesuffix(SUFFIX)
        assert len(ids_of("demo", sent)) <= length
        assert not has_token(sent)
        if not encoded.truncated[place]:
            assert sent == harmless[place]
    # Nothing that surely fits is asked about.
    assert all(len(asked.encode()) > length - 200 for asked in server.asked)


@pytest.mark.parametrize("kind", ["tokenizer", "server"])
@pytest.mark.parametrize("template_by", ["client", "server"])
async def test_documents_are_truncated_at_the_end_and_marked(
    kind: str, template_by: TemplateBy
) -> None:
    encoder = (
        RequestEncoder(DEMO, None, 300) if kind == "tokenizer" else FakeServer("demo").encoder(300)
    )
    assert encoder.can_truncate
    long = "The list is sorted in place. " * 200
    encoded = await encoder.encode("How?", ["short", long], None, template_by, ids=False)
    assert encoded.truncated == [False, True]
    sent = str(encoded.documents[1]).removeprefix("<Document>: ").removesuffix(SUFFIX)
    assert long.startswith(sent) and 300 < len(sent) < len(long)


async def test_a_document_that_cannot_be_cut_ends_the_requests_for_the_others() -> None:
    canceled = asyncio.Event()

    class FailingServer(FakeServer):
        async def encode(self, text: str) -> list[int]:
            if text.startswith("fails"):
                raise ServerError("http://h answered 400: no", 400)
            if text.startswith("hangs"):
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    canceled.set()
                    raise
            return await super().encode(text)

    documents = [word + " word" * 500 for word in ("hangs", "fails")]
    with pytest.raises(ServerError, match="400: no"):
        await FailingServer("demo").encoder(400).encode("q", documents, None, "client", ids=False)
    assert canceled.is_set()


async def test_a_character_that_is_cut_in_two_goes_whole() -> None:
    encoded = (
        await FakeServer("demo")
        .encoder(200)
        .encode("q", ["👩‍👩‍👧𓀀" * 200], None, "server", ids=False)
    )
    assert encoded.truncated == [True]
    assert "\ufffd" not in str(encoded.documents[0])
    assert ("👩‍👩‍👧𓀀" * 200).startswith(str(encoded.documents[0]))


async def test_without_a_tokenizer_nothing_is_cut() -> None:
    encoder, long = RequestEncoder(None, max_length=100), "word " * 1000
    assert not encoder.can_truncate
    assert await encoder.encode("q", [long], None, "server", ids=True) == EncodedRequest(
        "q", [long], [False]
    )


@pytest.mark.parametrize("kind", ["tokenizer", "server"])
async def test_no_room_for_a_document_is_an_error(kind: str) -> None:
    encoder = (
        RequestEncoder(DEMO, None, 120) if kind == "tokenizer" else FakeServer("demo").encoder(120)
    )
    with pytest.raises(PromptTooLongError, match="max_length=120"):
        await encoder.encode("word " * 100, ["a " * 100], None, "client", ids=False)


@pytest.mark.parametrize("template_by", ["client", "server"])
@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
async def test_a_lone_surrogate_is_named(kind: str, template_by: TemplateBy) -> None:
    encoder = {
        "tokenizer": RequestEncoder(DEMO),
        "server": FakeServer("demo").encoder(8192),
        "neither": RequestEncoder(None),
    }[kind]
    for query, documents, instruction, name in (
        ("\ud800", ["a"], None, "query"),
        ("q", ["a", "\udfff"], None, "document 1"),
        ("q", ["a"], "\ud800", "instruction"),
    ):
        with pytest.raises(InputError, match=f"{name} contains the lone surrogate"):
            await encoder.encode(query, documents, instruction, template_by, ids=False)


def test_a_shortened_writer_is_never_longer() -> None:
    encoder = RequestEncoder(DEMO, None, 2048)
    assert encoder.shortened(4096) is encoder and encoder.shortened(2048) is encoder
    assert encoder.shortened(2047).max_length == 2047
    assert encoder.shortened(2047).builder is not None


def test_tokenizers_are_found_where_they_lie(tmp_path: Path) -> None:
    assert load_tokenizer("demo") == cached_tokenizer("demo") == DEMO
    (tmp_path / "tokenizer.json").write_text(OFFICIAL, "utf-8")
    assert load_tokenizer(str(tmp_path)) == cached_tokenizer(str(tmp_path)) == OFFICIAL
    assert load_tokenizer(str(tmp_path / "tokenizer.json")) == OFFICIAL
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"tokenizer='.*empty' is not a tokenizer.json"):
        load_tokenizer(str(empty))
    assert cached_tokenizer(str(empty)) is None


@pytest.mark.parametrize(
    "name", ["no/such-model-anywhere", "a b", "~nobody-here/x", "x" * 5000, "\0", "", "../..", "//"]
)
def test_a_server_may_call_its_model_anything(name: str) -> None:
    assert cached_tokenizer(name) is None


@given(instruction=hostile)
@pytest.mark.parametrize("encoder", [ENCODERS["official"], RequestEncoder(None)])
async def test_control_tokens_in_an_instruction_for_a_servers_template_are_escaped(
    encoder: RequestEncoder, instruction: str
) -> None:
    encoded = await encoder.encode("q", ["d"], instruction, "server", ids=False)
    assert encoded.instruction is not None and not has_token(encoded.instruction)
    client = await encoder.encode("q", ["d"], instruction, "client", ids=False)
    assert client.instruction is None
