"""Failures of the Hugging Face hub are the package's errors, and none of them shows the token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from qwen3_reranker import CheckpointError, InputError, Reranker
from qwen3_reranker.convert import convert
from qwen3_reranker.convert.source import Source
from qwen3_reranker.doctor import diagnose
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.serve import launch

from support.checkpoints import cache_on_hub
from support.helpers import SECRET

NAME = "org/model"
BAD_TOKENS = [f"{SECRET}\n", f" {SECRET}", f"{SECRET}\x1b", f"{SECRET}é", ""]
USES: list[Callable[[], object]] = [
    lambda: Reranker(NAME).rerank("q", ["d"]),
    lambda: Reranker(NAME, on_error="keep_order").rerank("q", ["d"]),
    lambda: Reranker(base_url="http://localhost:9", tokenizer=NAME),
    lambda: launch(NAME, version="0.32.0", device="gpu"),
    lambda: convert(NAME, "target"),
]


@pytest.fixture
def refusing_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub can be reached only through a proxy that refuses."""

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(403, "Forbidden by policy")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        huggingface_hub.close_session()  # the next one reads the variable
        yield
        huggingface_hub.close_session()
        proxy.shutdown()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that led to it, shown or not."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.usefixtures("refusing_proxy")
@pytest.mark.parametrize("use", USES)
def test_a_proxy_that_refuses_is_an_error_that_names_the_model(use: Callable[[], object]) -> None:
    with pytest.raises((CheckpointError, InputError), match=rf"{NAME}.*Forbidden by policy"):
        use()


@pytest.mark.usefixtures("refusing_proxy")
def test_a_proxy_that_refuses_is_a_finding() -> None:
    assert "checkpoint-unusable" in diagnose(NAME).codes


@pytest.mark.usefixtures("refusing_proxy")
def test_a_proxy_that_refuses_the_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cache_on_hub(tmp_path, monkeypatch)
    checkpoint = Checkpoint.load(name)
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: checkpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match=rf"{name} cannot be downloaded"):
        Source.open(name, None, None)


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(token: str) -> None:
    reranker = Reranker(NAME, engine_args={"hf_token": token})
    uses: list[Callable[[], object]] = [
        lambda: reranker.rerank("q", ["d"]),
        lambda: convert(NAME, "target", token=token),
    ]
    for use in uses:
        with pytest.raises(InputError, match="access token") as caught:
            use()
        assert not any(SECRET in f"{error!r} {error}" for error in chain(caught.value))


def test_a_stored_token_that_cannot_be_sent_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"\x1b[200~{SECRET}")  # pasted with the terminal's marks
    with pytest.raises(InputError, match="access token") as caught:
        Reranker(NAME).rerank("q", ["d"])
    assert not any(SECRET in f"{error!r} {error}" for error in chain(caught.value))
