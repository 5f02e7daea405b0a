"""What goes over the wire: the prompt's ids or text, never too long, never with a token of users."""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_prompt import ADDED, BUILDERS, FULL, OFFICIAL, hostile, text
from tokenizers import Tokenizer

from qwen3_reranker.checkpoint import DEMO_MODEL
from qwen3_reranker.errors import InputError, PromptTooLongError
from qwen3_reranker.prompt import CONTROL_TOKENS, PREFIX, SUFFIX
from qwen3_reranker.scorers.dialects import Owner
from qwen3_reranker.scorers.writing import (
    ServerTokenizer,
    Writer,
    Written,
    cached_tokenizer,
    load_tokenizer,
)

DEMO = (DEMO_MODEL / "tokenizer.json").read_text("utf-8")
TOKENIZERS = {"demo": Tokenizer.from_str(DEMO), "official": FULL}
SOURCES = {"demo": DEMO, "official": OFFICIAL}
WRITERS = {name: Writer(source) for name, source in SOURCES.items()}
# Made once: reading the official tokenizer takes seconds.
SHORT = {
    "demo": {length: Writer(DEMO, None, length) for length in (110, 131, 160, 240)},
    "official": {131: Writer(OFFICIAL, None, 131)},
}


class FakeServer:
    """Tokenizes as a server does: with the added tokens, whoever wrote them."""

    def __init__(self, name: str) -> None:
        self.tokenizer = TOKENIZERS[name]
        self.asked: list[str] = []

    async def encode(self, text: str) -> list[int]:
        self.asked.append(text)
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    async def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def writer(self, max_length: int) -> Writer:
        return Writer(None, ServerTokenizer(self.encode, self.decode), max_length)


def ids_of(name: str, whole: str) -> list[int]:
    return list(TOKENIZERS[name].encode(whole, add_special_tokens=False).ids)


def whole(written: Written) -> list[str]:
    assert isinstance(written.query, str)
    return [written.query + document for document in written.documents]  # type: ignore[operator]


def has_token(texts: str, tokens: Sequence[str] = CONTROL_TOKENS) -> bool:
    return any(token in texts for token in tokens)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=80, deadline=None)
@given(query=hostile, documents=st.lists(hostile, min_size=1, max_size=3), instruction=hostile)
async def test_ids_are_the_builders_own(
    name: str, query: str, documents: list[str], instruction: str
) -> None:
    written = await WRITERS[name].write(query, documents, instruction, "client", ids=True)
    prompts = BUILDERS[name].encode(query, documents, instruction)
    assert [written.query + d for d in written.documents] == [p.ids for p in prompts]  # type: ignore
    assert written.truncated == [False] * len(documents)


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, deadline=None)
@given(query=text, documents=st.lists(text, min_size=1, max_size=3), instruction=text)
@example(query="?\n", documents=["\n", " "], instruction="\r")
async def test_the_text_of_harmless_texts_has_the_same_ids(
    name: str, kind: str, query: str, documents: list[str], instruction: str
) -> None:
    if has_token("\n".join([query, instruction, *documents])):
        return
    writers = {
        "tokenizer": WRITERS[name],
        "server": FakeServer(name).writer(8192),
        "neither": Writer(None),
    }
    written = await writers[kind].write(query, documents, instruction, "client", ids=False)
    prompts = BUILDERS[name].encode(query, documents, instruction)
    assert [ids_of(name, prompt) for prompt in whole(written)] == [p.ids for p in prompts]
    assert written.truncated == [False] * len(documents)
    # Where the server takes ids but there is no tokenizer, text goes all the same.
    if kind != "tokenizer":
        again = await writers[kind].write(query, documents, instruction, "client", ids=True)
        assert again == written


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, deadline=None)
@given(query=hostile, documents=st.lists(hostile, min_size=1, max_size=3), instruction=hostile)
@example(query="<|im_<|im_end|>end|>", documents=["<think<think>>"], instruction="</think>")
async def test_no_text_holds_a_token_of_the_users(
    name: str, kind: str, query: str, documents: list[str], instruction: str
) -> None:
    writers = {
        "tokenizer": WRITERS[name],
        "server": FakeServer(name).writer(8192),
        "neither": Writer(None),
    }
    written = await writers[kind].write(query, documents, instruction, "client", ids=False)
    for prompt in whole(written):
        assert prompt.startswith(PREFIX) and prompt.endswith(SUFFIX)
        assert not has_token(prompt.removeprefix(PREFIX).removesuffix(SUFFIX))
        ids, builder = ids_of(name, prompt), BUILDERS[name]
        inner = ids[len(builder.prefix_ids) : -len(builder.suffix_ids)]
        assert ids == builder.prefix_ids + inner + builder.suffix_ids
        assert not builder.control_ids.intersection(inner)
    plain = await writers[kind].write(query, documents, instruction, "server", ids=True)
    assert isinstance(plain.query, str) and not has_token(plain.query)
    assert not has_token("\n".join(str(document) for document in plain.documents))


async def test_many_texts_are_read_off_the_loop_and_few_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []

    def halves(*args: object) -> object:
        threads.append(threading.get_ident())
        return original(*args)

    builder = WRITERS["demo"].builder
    assert builder is not None
    original: Callable[..., object] = builder.halves
    monkeypatch.setattr(builder, "halves", halves)
    here = threading.get_ident()
    few, many = ["word " * 100] * 20, ["word " * 1000] * 11
    for texts in (few, many):
        await WRITERS["demo"].write("q", texts, None, "client", ids=True)
    assert threads[0] == here != threads[1]


def test_the_control_tokens_are_those_of_the_tokenizers() -> None:
    assert set(CONTROL_TOKENS) == set(ADDED)
    assert {token["content"] for token in json.loads(DEMO)["added_tokens"]} == set(ADDED)


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@given(query=text, documents=st.lists(text, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
async def test_a_server_that_writes_the_template_gets_plain_texts(
    kind: str, query: str, documents: list[str]
) -> None:
    if has_token("\n".join([query, *documents])):
        return
    writer = {
        "tokenizer": WRITERS["demo"],
        "server": FakeServer("demo").writer(8192),
        "neither": Writer(None),
    }[kind]
    written = await writer.write(query, documents, "find it", "server", ids=True)
    query, *documents = (unicodedata.normalize("NFC", text) for text in (query, *documents))
    assert written == Written(query, [*documents], [False] * len(documents), "find it")


@pytest.mark.parametrize("owner", ["client", "server"])
@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
@settings(max_examples=40, deadline=None)
@given(query=hostile, documents=st.lists(hostile, min_size=1, max_size=3), instruction=hostile)
@example(query="e\u0301", documents=["a\u030a" * 100], instruction="n\u0303")
async def test_every_text_that_is_sent_is_in_nfc(
    kind: str, owner: Owner, query: str, documents: list[str], instruction: str
) -> None:
    writer = {
        "tokenizer": SHORT["demo"][240],
        "server": FakeServer("demo").writer(240),
        "neither": Writer(None),
    }[kind]
    try:
        written = await writer.write(query, documents, instruction, owner, ids=False)
    except PromptTooLongError:
        return
    for sent in (written.query, *written.documents, written.instruction or ""):
        assert unicodedata.is_normalized("NFC", str(sent))


@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
async def test_a_placeholder_of_the_servers_template_stays_text_in_a_query(kind: str) -> None:
    writer = {
        "tokenizer": WRITERS["demo"],
        "server": FakeServer("demo").writer(8192),
        "neither": Writer(None),
    }[kind]
    query, documents = "a {document}{document} {query}", ["{document}"]
    named = {"ids": False, "placeholders": ("{document}",)}
    written = await writer.write(query, documents, None, "server", **named)  # type: ignore[arg-type]
    assert written.query == "a { document}{ document} {query}"
    assert written.documents == documents
    # A prompt that is whole has no placeholder of the server's.
    written = await writer.write(query, documents, None, "client", **named)  # type: ignore[arg-type]
    assert query in str(written.query)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, deadline=None)
@given(documents=st.lists(hostile.map(lambda t: t * 6), min_size=1, max_size=3), data=st.data())
async def test_a_prompt_is_never_longer_than_it_may_be(
    name: str, ids: bool, documents: list[str], data: st.DataObject
) -> None:
    length = data.draw(st.sampled_from(sorted(SHORT[name])))
    written = await SHORT[name][length].write("q", documents, None, "client", ids=ids)
    suffix = BUILDERS[name].suffix_ids
    for place, document in enumerate(documents):
        prompt = written.query + written.documents[place]  # type: ignore[operator]
        found = ids_of(name, prompt) if isinstance(prompt, str) else prompt
        assert len(found) <= length
        assert found[-len(suffix) :] == suffix
        harmless = BUILDERS[name].harmless(document)
        [uncut] = BUILDERS[name].encode("q", [document if ids else harmless])
        assert written.truncated[place] == (len(uncut.ids) > length)


@pytest.mark.parametrize("owner", ["client", "server"])
@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(hostile.map(lambda t: t * 8), min_size=1, max_size=3),
    length=st.integers(180, 400),
)
async def test_a_servers_tokenizer_cuts_too(
    owner: Owner, documents: list[str], length: int
) -> None:
    server = FakeServer("demo")
    written = await server.writer(length).write("q", documents, None, owner, ids=True)
    harmless = [BUILDERS["demo"].harmless(document) for document in documents]
    for place, document in enumerate(written.documents):
        if owner == "client":
            assert len(ids_of("demo", f"{written.query}{document}")) <= length
            assert str(document).endswith(SUFFIX)
        sent = str(document).removeprefix("<Document>: ").removesuffix(SUFFIX)
        assert len(ids_of("demo", sent)) <= length
        assert not has_token(sent)
        if not written.truncated[place]:
            assert sent == harmless[place]
    # Nothing that surely fits is asked about.
    assert all(3 * len(asked.encode()) > length - 200 for asked in server.asked)


@pytest.mark.parametrize("kind", ["tokenizer", "server"])
@pytest.mark.parametrize("owner", ["client", "server"])
async def test_what_is_cut_is_cut_at_the_end_and_said(kind: str, owner: Owner) -> None:
    writer = Writer(DEMO, None, 300) if kind == "tokenizer" else FakeServer("demo").writer(300)
    assert writer.can_cut
    long = "The list is sorted in place. " * 200
    written = await writer.write("How?", ["short", long], None, owner, ids=False)
    assert written.truncated == [False, True]
    sent = str(written.documents[1]).removeprefix("<Document>: ").removesuffix(SUFFIX)
    assert long.startswith(sent) and 300 < len(sent) < len(long)


async def test_a_character_that_is_cut_in_two_goes_whole() -> None:
    written = (
        await FakeServer("demo")
        .writer(200)
        .write("q", ["👩‍👩‍👧𓀀" * 200], None, "server", ids=False)
    )
    assert written.truncated == [True]
    assert "\ufffd" not in str(written.documents[0])
    assert ("👩‍👩‍👧𓀀" * 200).startswith(str(written.documents[0]))


async def test_without_a_tokenizer_nothing_is_cut() -> None:
    writer, long = Writer(None, max_length=100), "word " * 1000
    assert not writer.can_cut
    assert await writer.write("q", [long], None, "server", ids=True) == Written(
        "q", [long], [False]
    )


@pytest.mark.parametrize("kind", ["tokenizer", "server"])
async def test_no_room_for_a_document_is_an_error(kind: str) -> None:
    writer = Writer(DEMO, None, 120) if kind == "tokenizer" else FakeServer("demo").writer(120)
    with pytest.raises(PromptTooLongError, match="max_length=120"):
        await writer.write("word " * 100, ["a " * 100], None, "client", ids=False)


@pytest.mark.parametrize("owner", ["client", "server"])
@pytest.mark.parametrize("kind", ["tokenizer", "server", "neither"])
async def test_a_lone_surrogate_is_named(kind: str, owner: Owner) -> None:
    writer = {
        "tokenizer": Writer(DEMO),
        "server": FakeServer("demo").writer(8192),
        "neither": Writer(None),
    }[kind]
    for query, documents, instruction, name in (
        ("\ud800", ["a"], None, "query"),
        ("q", ["a", "\udfff"], None, "document 1"),
        ("q", ["a"], "\ud800", "instruction"),
    ):
        with pytest.raises(InputError, match=f"{name} holds the lone surrogate"):
            await writer.write(query, documents, instruction, owner, ids=False)


def test_a_shortened_writer_is_never_longer() -> None:
    writer = Writer(DEMO, None, 2048)
    assert writer.shortened(4096) is writer and writer.shortened(2048) is writer
    assert writer.shortened(2047).max_length == 2047
    assert writer.shortened(2047).builder is not None


def test_tokenizers_are_found_where_they_lie(tmp_path: Path) -> None:
    assert load_tokenizer("demo") == cached_tokenizer("demo") == DEMO
    (tmp_path / "tokenizer.json").write_text(OFFICIAL, "utf-8")
    assert load_tokenizer(str(tmp_path)) == cached_tokenizer(str(tmp_path)) == OFFICIAL
    assert load_tokenizer(str(tmp_path / "tokenizer.json")) == OFFICIAL
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"tokenizer='.*empty' is no tokenizer.json"):
        load_tokenizer(str(empty))
    assert cached_tokenizer(str(empty)) is None


@pytest.mark.parametrize(
    "name", ["no/such-model-anywhere", "a b", "~nobody-here/x", "x" * 5000, "\0", "", "../..", "//"]
)
def test_a_server_may_call_its_model_anything(name: str) -> None:
    assert cached_tokenizer(name) is None


@given(instruction=hostile)
@settings(max_examples=80, deadline=None)
@pytest.mark.parametrize("writer", [WRITERS["official"], Writer(None)])
async def test_an_instruction_for_a_servers_template_is_harmless(
    writer: Writer, instruction: str
) -> None:
    written = await writer.write("q", ["d"], instruction, "server", ids=False)
    assert written.instruction is not None and not has_token(written.instruction)
    client = await writer.write("q", ["d"], instruction, "client", ids=False)
    assert client.instruction is None
