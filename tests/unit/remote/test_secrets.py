"""Keys: which one is sent where, and that none is seen in a repr, a traceback or a message."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Generator, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen3_reranker import InputError, Reranker, RerankerError
from qwen3_reranker.doctor import diagnose
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank
from qwen3_reranker.redaction import Redactor, Secret
from qwen3_reranker.remote import transport
from qwen3_reranker.remote.endpoint import Settings
from qwen3_reranker.remote.support import SupportReporter

from support.scripted_server import (
    DOCUMENTS,
    MODEL,
    QUERY,
    RIGHT,
    VLLM,
    Reply,
    Request,
    ScriptedServer,
)
from support.secrets import KEY, OTHER, assert_unseen, sent


def echo(request: Request) -> Any:
    return f"the key {request.headers.get('authorization', '')} is wrong"


ECHOES: dict[str, Any] = {
    "401": lambda request: Reply({"error": {"message": echo(request)}}, 401),
    "400 as text": lambda request: Reply(echo(request).encode(), 400),
    "500": lambda request: Reply({"detail": echo(request)}, 500),
    "200 without scores": lambda request: Reply({"error": echo(request)}),
    "200 as a page": lambda request: Reply(f"<html>{echo(request)}</html>".encode()),
    "a score": lambda request: Reply({"data": [{"index": 0, "probs": [echo(request)]}]}),
    "a redirect": lambda request: Reply(b"", 307, {"Location": f"http://h/?{echo(request)}"}),
    "a broken header": lambda request: Reply(b"", 200, {"X Y": echo(request)}),
    "no answer": lambda request: Reply(reset_after=0),
    "too much": lambda request: Reply(iter([echo(request).encode() * 2**10] * 70)),
}


@pytest.mark.parametrize("place", ["api_key", "headers", "http_client", "environment"])
@pytest.mark.parametrize("name", ECHOES)
@pytest.mark.parametrize("when", ["at first", "later"])
def test_no_local_variable_shows_a_key(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, place: str, name: str, when: str
) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE", 2**20)
    given: dict[str, Any] = {}
    if place == "environment":
        monkeypatch.setenv("VLLM_API_KEY", KEY)
    else:
        headers = {"Authorization": f"Bearer {KEY}"}
        places: dict[str, dict[str, Any]] = {
            "api_key": {"api_key": KEY},
            "headers": {"headers": headers},
            "http_client": {"http_client": httpx.AsyncClient(headers=headers)},
        }
        given = places[place]
    with Reranker(base_url=server.url, max_retries=0, **given) as reranker:
        if when == "later":
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            server.always(ECHOES[name])
        else:
            for method, path in [*server.script]:
                if path != "/version":
                    server.script[method, path] = ECHOES[name]
        with pytest.raises(RerankerError) as caught:
            reranker.score(QUERY, DOCUMENTS)
    # The environment's is not sent before the server's kind is known.
    assert place == "environment" or sent(server) == {f"Bearer {KEY}"}
    assert_unseen(caught.value)


class Custom(httpx.Auth):
    """Sends the key in a request of its own."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        headers = {**request.headers, "Authorization": f"Bearer {KEY}"}
        yield httpx.Request(request.method, request.url, headers=headers, content=request.content)


CLIENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "basic": lambda: {"auth": ("user", KEY)},
    "custom": lambda: {"auth": Custom()},
    "cookies": lambda: {"cookies": {"theme": "dark", "session": KEY, "last": "seen"}},
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("whole", [True, False], ids=["header", "value"])
@pytest.mark.parametrize("shape", ["400", "200 without scores", "a redirect", "a page"])
def test_what_a_client_adds_to_a_request_is_not_shown(
    server: ScriptedServer, name: str, shape: str, *, whole: bool
) -> None:
    sent: list[str] = []

    def echoing(request: Request) -> Reply:
        header = request.headers["cookie" if name == "cookies" else "authorization"]
        sent.append(header)
        value = KEY if name == "cookies" else header.rpartition(" ")[2]
        shown = f"you sent {header if whole else value} here"
        return {
            "400": Reply({"detail": shown}, 400),
            "200 without scores": Reply({"error": shown}),
            "a redirect": Reply(b"", 307, {"Location": f"http://h/?{shown}"}),
            "a page": Reply(f"<html>{shown}</html>".encode()),
        }[shape]

    given: dict[str, Any] = {"dialect": "vllm-classify", "template": "client", "max_retries": 0}
    client = httpx.AsyncClient(**CLIENTS[name]())
    with Reranker(base_url=server.url, http_client=client, **given) as reranker:
        server.always(echoing)
        with pytest.raises(RerankerError) as caught:
            reranker.score(QUERY, DOCUMENTS)
    assert "you sent ***" in str(caught.value)
    for header in sent:
        assert header not in str(caught.value)
        assert header.rpartition(" ")[2] not in str(caught.value)
    assert KEY not in str(caught.value)


WRONG: dict[str, dict[str, Any]] = {
    "a number": {"timeout": -1},
    "a name": {"dialect": "esperanto"},
    "a URL": {"base_url": "nowhere"},
    "a certificate": {"verify": "/nowhere.pem"},
    "a header": {"headers": {"X-Key": f"{KEY}\n"}},
    "a tokenizer": {"tokenizer": "/nowhere"},
}


@pytest.mark.parametrize(
    ("make", "name"),
    [(make, name) for make in (Reranker, LangChainRerank, LlamaIndexRerank) for name in WRONG]
    + [(diagnose, name) for name in ("a name", "a certificate", "a header", "a tokenizer")],
)
def test_no_local_variable_of_a_constructor_shows_a_key(
    make: Callable[..., object], name: str
) -> None:
    given: dict[str, Any] = {
        "base_url": "http://localhost:8000",
        "api_key": KEY,
        "headers": {"X-Key": OTHER},
        "proxy": f"http://me:{OTHER}@localhost:1",
        **WRONG[name],
    }
    if make is diagnose:
        given["target"] = given.pop("base_url")
    with pytest.raises(ValueError) as caught:  # pydantic's, or the package's
        make(**given)
    assert_unseen(caught.value)


def test_a_wrong_setting_beside_the_keys_shows_none() -> None:
    with pytest.raises(InputError) as caught:
        Reranker("demo", api_key=KEY, headers={"X-Key": OTHER})
    assert_unseen(caught.value)
    with pytest.raises(InputError) as caught:
        Reranker(base_url="http://h", api_key=KEY, instruction=7)  # type: ignore[arg-type]
    assert_unseen(caught.value)


def test_the_settings_of_servers_show_neither_key_nor_tokenizer() -> None:
    reporter = SupportReporter("warn", max_length_given=False)
    shown = repr(Settings(None, None, None, "auto", "{" * 10**6, Secret(KEY), 60.0, reporter))
    assert KEY not in shown
    assert len(shown) < 500


def test_a_secret_is_never_shown_and_compares_by_value() -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret} {secret!r} {[secret]} { {'a': secret} }"
    assert secret == Secret(KEY) != Secret(OTHER)
    assert {secret: 1}[Secret(KEY)] == 1
    assert Secret.of(secret) is secret
    assert Secret.of(None) is None


# What servers repeat

printable = st.text([chr(c) for c in range(33, 127)], min_size=8, max_size=40)
ESCAPES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, all that may be": lambda text: "".join(
        c if c.isalnum() else f"\\u{ord(c):04X}" for c in text
    ),
    "HTML": html.escape,
    "HTML by number": lambda text: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in text),
    "a URL": lambda text: quote(text, safe=""),
    "a URL in JSON": lambda text: json.dumps(quote(text)),
}


@given(key=printable, form=st.sampled_from(sorted(ESCAPES)), around=st.text(max_size=5))
@example(key="--------", form="HTML", around="")
@example(key="ab+/cd==", form="JSON, all that may be", around="\\")
def test_a_secret_is_found_in_any_form(key: str, form: str, around: str) -> None:
    redactor = Redactor([Secret(f"Bearer {key}")])
    written = ESCAPES[form](key)
    text = f"{around}Bearer {written}{around}"
    assert written not in redactor.text(text)
    assert written.encode() not in redactor.body(text.encode())
    assert "***" in redactor.text(text)


@pytest.fixture(scope="module")
def echoing() -> Iterator[tuple[ScriptedServer, Reranker]]:
    with (
        ScriptedServer() as server,
        Reranker(base_url=server.url, api_key=KEY, max_retries=0) as reranker,
    ):
        yield server, reranker.warm_up()


@settings(derandomize=True)
@given(
    before=st.sampled_from([100, 200, 300, 1000, 20_000]).flatmap(
        lambda cut: st.integers(cut - 60, cut)
    ),
    form=st.sampled_from(["JSON", "a page", "text", "a result"]),
)
def test_a_key_is_hidden_before_anything_is_cut(
    echoing: tuple[ScriptedServer, Reranker], before: int, form: str
) -> None:
    """Where an excerpt ends in the middle of a key, its beginning would stand there."""
    server, reranker = echoing
    said = "." * before + KEY * 3
    replies = {
        "JSON": Reply({"error": {"message": said}}, 400),
        "a page": Reply(f"<html>{said}</html>".encode(), 400),
        "text": Reply(said.encode(), 502),
        "a result": Reply({"data": [{"index": 0, "note": said}]}),
    }
    server.always(replies[form])
    with pytest.raises(RerankerError) as caught:
        reranker.score(QUERY, ["one"])
    assert KEY[:5] not in str(caught.value)


@pytest.mark.parametrize("where", ["headers", "api_key", "http_client"])
@pytest.mark.parametrize("value", ["index", "data", "probs", "true", "4821", "0000", "vllm", MODEL])
def test_no_value_of_a_header_changes_a_successful_answer(
    server: ScriptedServer, where: str, value: str
) -> None:
    headers = {"X-Task": value}
    places: dict[str, dict[str, Any]] = {
        "api_key": {"api_key": value},
        "headers": {"headers": headers},
        "http_client": {"http_client": httpx.AsyncClient(headers=headers)},
    }
    documents = [f"The river number {i} begins in the hills." for i in range(40)]
    scores = [0.4821 + i / 10**6 for i in range(40)]
    right = VLLM["POST", "/classify"]

    def exact(request: Request) -> Reply:
        if len(request.body["input"]) != len(scores):
            return right(request)  # the probe
        return Reply({"data": [{"index": i, "probs": [s]} for i, s in enumerate(scores)]})

    server.always(exact)
    with Reranker(base_url=server.url, max_retries=0, **places[where]) as reranker:
        assert reranker.score(QUERY, documents) == scores
        assert reranker.model == MODEL


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2/x@host:3128",
        "http://user:hunter2@host:port",
        "user:hunter2@host:8000",
        "//user:hunter2@host",
        "user:hunter2/x@host",
    ],
)
@pytest.mark.parametrize("place", ["base_url", "proxy"])
def test_no_password_of_a_url_that_cannot_be_used_is_shown(url: str, place: str) -> None:
    with pytest.raises(InputError) as caught:
        if place == "proxy":
            Reranker(base_url="http://h", proxy=url)
        else:
            Reranker(base_url=url)
    assert "hunter2" not in str(caught.value)
