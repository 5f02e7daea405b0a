"""How servers are reached: wrong arguments, keys that nobody sees, clients that are handed in."""

from __future__ import annotations

import logging
import traceback
import warnings
from functools import partial
from typing import Any

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd
from llama_index.core.schema import NodeWithScore, TextNode

from qwen3_reranker import DetectionError, InputError, Reranker, RerankerError, RerankerWarning
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.adapters import rerank_texts
from support.scripted_server import DOCUMENTS, QUERY, RIGHT, Reply, Request, ScriptedServer, but

KEY = "sk-5f0e8c1d2b7a"


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 0}, "timeout=0: give a number"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": "5"}, "timeout='5'"),
        ({"timeout": True}, "timeout=True"),
        ({"max_retries": -1}, "max_retries=-1: give a whole number"),
        ({"max_retries": 1.5}, "max_retries=1.5"),
        ({"max_concurrency": 0}, "max_concurrency=0: give a whole number"),
        ({"dialect": "esperanto"}, "dialect='esperanto': give one of auto"),
        ({"dialect": 3}, "dialect=3"),
        ({"template": "both"}, "template='both': give one of"),
        ({"on_unsupported": "cry"}, "on_unsupported='cry'"),
        ({"base_url": "localhost:8000"}, "base_url='localhost:8000': give a URL with its scheme"),
        ({"base_url": "ftp://host"}, "base_url='ftp://host'"),
        ({"base_url": ""}, "base_url=''"),
        ({"base_url": []}, "base_url=[]: give at least one"),
        ({"base_url": 8000}, "base_url=8000"),
        ({"base_url": "http://host?key=1"}, "has a query"),
        ({"max_length": 0}, "max_length=0"),
        ({"tokenizer": "/nowhere"}, "tokenizer='/nowhere'"),
        ({"proxy": "gopher://host"}, "proxy= cannot be used"),
        ({"proxy": "host:3128"}, "proxy= cannot be used"),
        ({"proxy": 3}, "proxy= is a int"),
        ({"verify": "/nowhere.pem"}, "verify='/nowhere.pem'"),
        ({"verify": __file__}, f"verify={__file__!r}"),
        ({"verify": "/"}, "verify='/'"),
        ({"verify": 3}, "verify=3"),
        ({"headers": {"a b": "c"}}, "the header 'a b'"),
        ({"headers": {"a": "b\nc"}}, "the header 'a'"),
        ({"headers": {"a": 1}}, "the header 'a'"),
        ({"api_key": 7}, "api_key= is a int"),
        ({"engine_args": {}}, "only an embedded engine can use engine_args="),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Reranker(**{"base_url": "http://localhost:8000", **arguments})
    assert message in str(caught.value)


def test_arguments_of_a_server_need_one() -> None:
    for name in ("api_key", "dialect", "headers"):
        arguments: dict[str, Any] = {name: None}
        with pytest.raises(InputError, match=f"only a server can use {name}=: give base_url="):
            Reranker(**arguments)


def test_a_proxys_password_is_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        Reranker(base_url="http://localhost:8000", proxy="gopher://me:passw0rd@host")
    assert "passw0rd" not in str(caught.value)


# Keys


def echo(request: Request) -> Any:
    """As a careless server repeats the key that it was sent."""
    return f"the key {request.headers.get('authorization', '')} is wrong"


ECHOES: dict[str, Any] = {
    "401": lambda request: Reply({"error": {"message": echo(request)}}, 401),
    "400 as text": lambda request: Reply(echo(request).encode(), 400),
    "500": lambda request: Reply({"detail": echo(request)}, 500),
    "503": lambda request: Reply({"detail": echo(request)}, 503, {"Retry-After": "99999"}),
    "200 without scores": lambda request: Reply({"error": echo(request)}),
    "200 as a page": lambda request: Reply(f"<html>{echo(request)}</html>".encode()),
    "a score": lambda request: Reply({"data": [{"index": 0, "probs": [echo(request)]}]}),
    "a redirect": lambda request: Reply(b"", 307, {"Location": f"http://h/?{echo(request)}"}),
    "a broken header": lambda request: Reply(b"", 200, {"X Y": echo(request)}),
}


@pytest.mark.parametrize("place", ["api_key", "headers"])
@pytest.mark.parametrize("name", ECHOES)
@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_key_is_never_shown(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, place: str, name: str, when: str
) -> None:
    caplog.set_level(logging.DEBUG)
    settings: dict[str, Any] = {"base_url": server.url, "max_retries": 0, "timeout": 20}
    settings[place] = KEY if place == "api_key" else {"Authorization": f"Bearer {KEY}"}
    if when == "at first":
        server.script = dict.fromkeys(server.script, ECHOES[name])
    shown: list[str] = []
    for adapter in (LangChainRerank(**settings), LlamaIndexRerank(**settings)):
        reranker = Reranker(**settings)
        calls = (reranker.score, reranker.rerank, partial(rerank_texts, adapter))
        if when == "later":
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            assert rerank_texts(adapter, QUERY, DOCUMENTS)
            server.always(ECHOES[name])
        for call in calls:
            with pytest.raises(RerankerError) as caught:
                call(QUERY, DOCUMENTS)
            shown += [repr(caught.value), *traceback.format_exception(caught.value)]
        shown += [repr(adapter), str(adapter), repr(reranker), str(adapter.model_dump())]
        shown += [adapter.model_dump_json(), repr(adapter.__dict__.get("api_key"))]
        if isinstance(adapter, LangChainRerank):
            shown.append(repr(dumpd(adapter)))
        else:
            shown += [repr(adapter.to_dict()), adapter.to_json()]
        if when == "later":
            server.script = ScriptedServer().script
            shown.append(reranker.describe())
        adapter.close()
        reranker.close()
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    assert {"httpx", "httpcore.http11"} <= {record.name for record in caplog.records}
    if name not in ("a redirect", "a broken header"):  # httpcore logs the headers of answers
        shown.append(caplog.text)
    assert not [text for text in shown if KEY in text]


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY} ", f"{KEY}é", f"{KEY}\r\nX-Other: 1"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(server: ScriptedServer, key: str) -> None:
    with pytest.raises(InputError, match="'Authorization' cannot be sent") as caught:
        Reranker(base_url=server.url, api_key=key).score(QUERY, DOCUMENTS)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert server.requests == []


def test_a_key_of_the_environment_is_sent_and_not_shown(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with Reranker(base_url=server.url) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        server.always(ECHOES["401"])
        with pytest.raises(RerankerError) as caught:
            reranker.score(QUERY, DOCUMENTS)
    assert server.asked()[-1].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(caught.value)


def test_kept_order_does_not_show_the_key(server: ScriptedServer) -> None:
    settings: dict[str, Any] = {"base_url": server.url, "api_key": KEY, "on_error": "keep_order"}
    server.script = dict.fromkeys(server.script, ECHOES["401"])
    with warnings.catch_warnings(record=True) as caught, LangChainRerank(**settings) as adapter:
        warnings.simplefilter("always")
        documents = adapter.compress_documents([Document(text) for text in DOCUMENTS], QUERY)
    with warnings.catch_warnings(record=True), LlamaIndexRerank(**settings) as processor:
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
        nodes = processor.postprocess_nodes(nodes, query_str=QUERY)
    told = [str(w.message) for w in caught if w.category is RerankerWarning]
    shown = [*told, *map(repr, documents), *map(repr, nodes)]
    assert all("is wrong" in text for text in shown)
    assert not [text for text in shown if KEY in text]


# The client


def test_headers_are_sent_with_everything(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url, headers={"X-Team": "rivers"}) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert {request.headers["x-team"] for request in server.requests} == {"rivers"}


async def test_a_custom_client_is_used_and_left_open(server: ScriptedServer) -> None:
    client = httpx.AsyncClient(headers={"X-Client": "mine"}, timeout=0.1, follow_redirects=True)
    server.first(but(wait=0.5))
    async with Reranker(base_url=server.url, http_client=client, timeout=20) as reranker:
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        with ScriptedServer() as other:
            server.always(Reply(b"", 307, {"Location": f"{other.url}/classify"}))
            with pytest.raises(RerankerError, match="redirects"):
                await reranker.ascore(QUERY, DOCUMENTS)
            assert other.connections == 0
    assert {request.headers["x-client"] for request in server.requests} == {"mine"}
    assert not client.is_closed


def test_a_proxy_gets_the_requests(server: ScriptedServer) -> None:
    reranker = Reranker(base_url="http://reranker.invalid", proxy=server.url)
    with reranker, pytest.raises(DetectionError):  # the scripted server is no proxy
        reranker.score(QUERY, DOCUMENTS)
    assert all(r.path.startswith("http://reranker.invalid/") for r in server.requests)
    assert server.requests


@pytest.mark.parametrize("backend", [{}, {"base_url": "http://h"}])
def test_an_unknown_argument_is_not_taken_for_a_servers(backend: dict[str, Any]) -> None:
    unknown: dict[str, Any] = {"dtype": "float32"}
    with pytest.raises(TypeError, match=r"unexpected keyword argument dtype=.*engine_args="):
        Reranker("demo", **backend, **unknown)
