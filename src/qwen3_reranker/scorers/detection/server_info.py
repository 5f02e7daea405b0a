"""What a server says of itself: its kind, version, models and lengths, from a few cheap GETs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qwen3_reranker.errors import ServerError
from qwen3_reranker.scorers.transport import RetryableError

__all__ = ["ServerInfo", "read_server_info"]

Get = Callable[[str], Awaitable[Any]]

# What only one kind of server answers on a path: the keys that its answer has.
_KINDS: Mapping[str, tuple[tuple[str, frozenset[str]], ...]] = {
    "SGLang": (
        ("/model_info", frozenset({"model_path", "is_generation"})),
        ("/get_model_info", frozenset({"model_path", "is_generation"})),
    ),
    "TEI": (("/info", frozenset({"model_id", "max_client_batch_size"})),),
    "Xinference": (("/v1/cluster/version", frozenset({"version", "full-revisionid"})),),
    "llama.cpp": (("/props", frozenset({"default_generation_settings"})),),
}
_OWNERS = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp", "infinity": "Infinity"}
_TITLES = {"litellm": "LiteLLM", "xinference": "Xinference", "infinity": "Infinity"}
_VERSIONS = (
    ("/version", "version"),
    ("/info", "version"),
    ("/v1/cluster/version", "version"),
    ("/props", "build_info"),
)
_PATHS = (
    "/v1/models",
    "/version",
    *(path for tells in _KINDS.values() for path, _ in tells),
)


@dataclass(frozen=True)
class ServerInfo:
    """
    What was found.

    Attributes:
        kind: "vLLM", "SGLang", ...; None where nothing told.
        version: Its version, where it says it.
        models: The names under which models are served.
        sources: Where models came from, as far as the server says: folders or hub names.
        max_length: The most tokens that the model takes, where the server says it.
        generates: Whether the model writes text, where the server says it.
    """

    kind: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    max_length: int | None = None
    generates: bool | None = None

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.version) if part) or "an unknown kind"


async def read_server_info(get: Get) -> ServerInfo:
    """
    Ask a server what it is. Costs a few milliseconds on one that answers.

    Args:
        get: Returns the JSON answer of a path, or raises `ServerError`.

    Raises:
        RetryableError: The server cannot be reached.
    """

    async def one(path: str) -> Any:
        try:
            return await get(path)
        except ServerError as error:
            if isinstance(error, RetryableError) and error.status is None:
                raise
            return None

    answers = dict(zip(_PATHS, await asyncio.gather(*map(one, _PATHS)), strict=True))
    kind = _kind(answers)
    if kind is None:
        # Large and slow on some servers, so only where nothing else told.
        page = await one("/openapi.json")
        info = page.get("info") if isinstance(page, dict) else None
        title = str(info.get("title")).lower() if isinstance(info, dict) else ""
        kind = next((name for word, name in _TITLES.items() if word in title), None)
    listed = _models(answers["/v1/models"])
    about = next(
        (
            a
            for p in ("/model_info", "/get_model_info", "/info")
            if isinstance(a := answers[p], dict)
        ),
        {},
    )
    versions = [
        answers[path].get(key) for path, key in _VERSIONS if isinstance(answers[path], dict)
    ]
    sources = [model.get("root") for model in listed]
    sources += [about.get(key) for key in ("model_path", "tokenizer_path", "model_id")]
    models = [model["id"] for model in listed] or [about.get("model_id")]
    lengths = [model.get("max_model_len") for model in listed[:1]] + [about.get("max_input_length")]
    lengths.append(_slot_length(answers["/props"]))
    return ServerInfo(
        kind,
        next((v for v in versions if isinstance(v, str) and v), None),
        tuple(m for m in models if isinstance(m, str) and m),
        tuple(dict.fromkeys(s for s in sources if isinstance(s, str) and s)),
        next((n for n in lengths if type(n) is int and n > 0), None),
        generates if isinstance(generates := about.get("is_generation"), bool) else None,
    )


def _models(answer: Any) -> list[dict[str, Any]]:
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        return []
    return [m for m in data if isinstance(m, dict) and isinstance(m.get("id"), str)]


def _slot_length(props: Any) -> Any:
    """Return the context of one of llama.cpp's slots, in tokens; what `--parallel` leaves each."""
    settings = props.get("default_generation_settings") if isinstance(props, dict) else None
    return settings.get("n_ctx") if isinstance(settings, dict) else None


def _kind(answers: Mapping[str, Any]) -> str | None:
    for kind, tells in _KINDS.items():
        for path, keys in tells:
            answer = answers[path]
            if isinstance(answer, dict) and keys <= answer.keys():
                return kind
    for model in _models(answers["/v1/models"]):
        if owner := _OWNERS.get(str(model.get("owned_by"))):
            return owner
    version = answers["/version"]
    if isinstance(version, dict) and set(version) == {"version"}:
        return "vLLM"  # its models are hidden behind a key
    return None
