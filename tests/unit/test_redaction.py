"""Keys and tokens stay out of messages, reprs, validation errors and tracebacks with locals."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from qwen3_reranker import Reranker, RerankerError
from qwen3_reranker.embedded.engine_registry import active_engines
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.helpers import SECRET

URL = "http://localhost:1"
# Refused wherever it may be, and with each of these there is a key beside it.
REFUSED: list[dict[str, Any]] = [
    {"api_key": SECRET},
    {"headers": {"X-Key": SECRET}},
    {"base_url": "ftp://localhost", "api_key": SECRET},
    {"base_url": URL, "api_key": SECRET, "timeout": -1.0},
    {"base_url": URL, "headers": {"Authorization": f"Bearer {SECRET}"}, "max_retries": -1},
    {"base_url": URL, "headers": {"X Key": SECRET}},
    {"base_url": URL, "headers": {"X-Key": f"{SECRET}\n"}},
    {"base_url": URL, "api_key": SECRET, "engine_args": {}},
    {"base_url": URL, "engine_args": {"hf_token": SECRET}},
    {"model": "demo", "engine_args": {"hf_token": SECRET}, "max_length": 0},
]
# Refused by the adapters alone.
MISTYPED: list[dict[str, Any]] = [
    {"api_kye": SECRET},
    {"api_key": [SECRET]},
    {"headers": SECRET},
    {"headers": {"X-Key": [SECRET]}},
    {"proxy": {"https": SECRET}},
    {"engine_args": SECRET},
    {"top_n": 0, "api_key": SECRET},
]
ADAPTERS = [LangChainRerank, LlamaIndexRerank]


def shown(error: BaseException) -> str:
    """Return all that reports of an error show, with the locals of all frames but the test's."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    report = traceback.TracebackException(type(error), error, frames, capture_locals=True)
    texts = ["".join(report.format()), repr(error), str(error)]
    if isinstance(error, ValidationError):
        texts += [repr(error.errors()), error.json()]
        contexts = [found.get("ctx", {}).get("error") for found in error.errors()]
        texts += [shown(found) for found in contexts if isinstance(found, Exception)]
    return "\n".join(texts)


def raised(call: Callable[..., object], **arguments: Any) -> BaseException:
    with pytest.raises((RerankerError, ValidationError)) as caught:
        call(**arguments)
    return caught.value


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_reranker_that_is_refused_shows_no_secret(arguments: dict[str, Any]) -> None:
    assert SECRET not in shown(raised(Reranker, **arguments))


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("arguments", [*REFUSED, *MISTYPED])
def test_an_adapter_that_is_refused_shows_no_secret(
    adapter: type[LangChainRerank], arguments: dict[str, Any]
) -> None:
    error = raised(adapter, **arguments)
    assert SECRET not in shown(error)
    assert error.__context__ is None
    error = raised(lambda **settings: adapter.model_validate(settings), **arguments)
    assert isinstance(error, ValidationError)
    assert SECRET not in repr(error.errors()) + error.json() + str(error)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", ["api_key", "headers", "api_kye"])
def test_an_assignment_that_is_refused_shows_no_secret(
    adapter: type[LangChainRerank], name: str
) -> None:
    holder = adapter(model="demo")
    error = raised(lambda **found: setattr(holder, *next(iter(found.items()))), **{name: SECRET})
    assert isinstance(error, ValidationError)
    assert error.errors()[0]["loc"] == (name,)
    assert SECRET not in shown(error)
    holder.close()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_password_in_a_url_is_in_no_validation_error(adapter: type[LangChainRerank]) -> None:
    for url in (f"http://user:{SECRET}@localhost", [f"http://user:{SECRET}@localhost", 3]):
        error = raised(adapter, base_url=url)
        assert isinstance(error, ValidationError)
        assert SECRET not in repr(error.errors()) + error.json() + str(error)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_errors_say_where_and_what(adapter: type[LangChainRerank]) -> None:
    error = raised(adapter, top_n=0, api_kye=SECRET)
    assert isinstance(error, ValidationError)
    assert error.title == adapter.__name__
    found = {detail["loc"]: detail["msg"] for detail in error.errors()}
    assert "top_n=0: give a whole number" in found["top_n",]
    assert found["api_kye",] == "Extra inputs are not permitted"
    assert {detail["input"] for detail in error.errors()} == {"***"}


def test_a_hub_that_refuses_shows_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[str | None] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            received.append(self.headers["Authorization"])
            self.send_error(401)

    with HTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{hub.server_port}/{{repo_id}}/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with Reranker("nobody/no-such-model", engine_args={"hf_token": SECRET}) as reranker:
            error = raised(lambda **_: reranker.prompt("q", "d"))
        hub.shutdown()
    assert f"Bearer {SECRET}" in received
    assert "nobody/no-such-model" in str(error)
    assert SECRET not in shown(error)


def test_the_registry_of_engines_holds_no_token() -> None:
    with Reranker("demo", engine_args={"hf_token": SECRET}):
        assert active_engines()
        for engine in active_engines():
            assert SECRET not in f"{engine!r} {engine.settings!r} {engine.settings.key!r}"


@pytest.fixture
def settings() -> Iterator[dict[str, Any]]:
    """Settings of the caller's, which must not change."""
    settings: dict[str, Any] = {"headers": {"X-Key": SECRET}, "engine_args": {"hf_token": SECRET}}
    yield settings
    assert repr(settings).count(SECRET) == 2


@pytest.mark.parametrize("kind", [Reranker, *ADAPTERS])
def test_the_callers_settings_stay_as_they_are(kind: Any, settings: dict[str, Any]) -> None:
    kind(base_url=URL, headers=settings["headers"]).close()
    kind(model="demo", engine_args=settings["engine_args"]).close()
