"""Find the tokenizer of a served model: a file, the hub's cache, or the server itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen3_reranker.dialects import require_list
from qwen3_reranker.errors import AnswerError, CheckpointError, InputError, ServerError
from qwen3_reranker.model.checkpoint import DEMO_MODEL, read_file
from qwen3_reranker.model.layout import TOKENIZER
from qwen3_reranker.paths import expand_user
from qwen3_reranker.remote.server_client import ServerClient

__all__ = ["ServerTokenizer", "cached_tokenizer", "load_tokenizer"]


class ServerTokenizer:
    """
    Tokenize with the `/tokenize` and `/detokenize` endpoints of vLLM and SGLang.

    Args:
        client: The client of the server.
        model: The model's name on the server. None uses the server's default.
    """

    def __init__(self, client: ServerClient, model: str | None) -> None:
        self._client = client
        self._model = model

    async def encode(self, text: str) -> list[int]:
        """
        Return the token ids of a text, without special tokens around it.

        Raises:
            ServerError: The server has no such endpoint, or failed.
            AnswerError: The response contains no token ids.
        """
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        return (await self._client.post("/tokenize", body)).read(_token_ids)

    async def decode(self, ids: list[int]) -> str:
        """
        Return the text of token ids.

        Raises:
            ServerError: The server has no such endpoint, or failed.
            AnswerError: The response contains no text.
        """
        body = {"model": self._model, "tokens": ids}
        return (await self._client.post("/detokenize", body)).read(_text)

    async def max_length(self) -> int | None:
        """Return the model's length limit in tokens; None if the server does not report it."""
        try:
            # vLLM 0.32 does not require its API key here.
            answer = (await self._client.post("/tokenize", {"prompt": "yes"})).value
        except ServerError:
            return None
        length = answer.get("max_model_len") if isinstance(answer, dict) else None
        return length if type(length) is int and length > 0 else None


def load_tokenizer(source: str) -> str:
    """
    Return the content of a tokenizer.json.

    Args:
        source: The file, a folder that contains it, a model on the Hugging Face hub, or "demo".

    Raises:
        InputError: There is no tokenizer.json.
    """
    try:
        path = expand_user(source)
        return path.read_text("utf-8") if path.is_file() else read_file(source, TOKENIZER)
    except (CheckpointError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"tokenizer={source!r} is not a tokenizer.json, a folder that contains one, or a model "
            f"on the Hugging Face hub: {error}"
        ) from None


def cached_tokenizer(name: str) -> str | None:
    """
    Return the tokenizer.json of a model that is on this machine, without a request to the hub.

    Args:
        name: A folder, a model on the Hugging Face hub, or "demo".

    Returns:
        The content of the file; None if it is not on this machine.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        folder = DEMO_MODEL if name == "demo" else expand_user(name)
        path: object = folder / TOKENIZER
        if not folder.is_dir():
            cached = try_to_load_from_cache(name, TOKENIZER)
            path = Path(cached) if isinstance(cached, str) else None
        return path.read_text("utf-8") if isinstance(path, Path) and path.is_file() else None
    except (OSError, ValueError):  # servers may give their models any name
        return None


def _token_ids(answer: Any) -> list[int]:
    ids = require_list(answer, "tokens")
    if not all(type(token) is int for token in ids):
        raise AnswerError(f"/tokenize answered with no token ids: {ids!r:.200}")
    return ids


def _text(answer: Any) -> str:
    fields = answer if isinstance(answer, dict) else {}
    text = fields.get("prompt", fields.get("text"))  # vLLM, SGLang
    if not isinstance(text, str):
        raise AnswerError(f"/detokenize answered with no text: {answer!r:.200}")
    return text
