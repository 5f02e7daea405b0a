"""Server metadata, read from a few inexpensive GET endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qwen3_reranker.errors import ServerError
from qwen3_reranker.remote.responses import RetryableError, is_key_refusal

__all__ = ["ServerInfo", "read_server_info"]

Get = Callable[[str], Awaitable[Any]]
"""Returns the parsed JSON response of a path, or raises `ServerError`."""

Answers = Mapping[str, Any]
"""The JSON response of each path, or the error that it failed with."""

# Infinity 0.0.77 has its list here, unless it is started with --url-prefix.
_LISTS = ("/v1/models", "/models")
# Infinity serves its page below --url-prefix, which is usually /v1.
_PAGES = ("/openapi.json", "/v1/openapi.json")
# Fields of a list of models that say what a model does.
_USES = ("capabilities", "model_type", "type", "task", "mode")


@dataclass(frozen=True)
class ServerInfo:
    """
    What a server reports about itself and about the model that is used.

    Attributes:
        kind: "vLLM", "SGLang" and so on; None if it cannot be identified.
        version: The server's version; None if it is not reported.
        models: The names under which the model is served, aliases included.
        sources: Where the model came from, as far as the server reports it: folders or models on
            the Hugging Face hub.
        max_length: The maximum number of tokens that the model accepts; None if it is not reported.
        generates: Whether the model generates text; None if it is not reported.
        alternatives: The names of other listed models that may just as well be the reranker.
        refusal: The server's message if it refused to list its models without the right API key.
    """

    kind: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    max_length: int | None = None
    generates: bool | None = None
    alternatives: tuple[str, ...] = ()
    refusal: str | None = None

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.version) if part) or "an unknown kind"


async def read_server_info(get: Get, model: str | None = None, *, pages: bool = True) -> ServerInfo:
    """
    Read the metadata of a server. This takes a few milliseconds if the server responds.

    What cannot be read stays unknown, because gateways drop connections for paths that they do not
    have.

    Args:
        get: Returns the parsed JSON response of a path, or raises `ServerError`.
        model: The name of the model to use. None uses the one that is listed as a reranker, or
            else the first.
        pages: Whether to read the server's OpenAPI pages, which are large, if nothing else
            identifies it. They are not read if the server leaves any path without a response.

    Raises:
        RetryableError: No path was answered at all.
    """
    responses = await asyncio.gather(*(_read(get, path) for path in _PATHS))
    answers = dict(zip(_PATHS, responses, strict=True))
    silent = [r for r in responses if isinstance(r, RetryableError) and r.status is None]
    if len(silent) == len(responses):
        raise silent[0]
    kind = _identify(answers)
    if kind is None and pages and not silent:
        kind = await _identify_by_page(get)
    info = _listed_info(answers, model)
    return info if kind is None else _merge(kind.name, info, kind.read(answers))


async def _read(get: Get, path: str) -> Any:
    """Return a path's response, or the error that it failed with."""
    try:
        return await get(path)
    except ServerError as error:
        if not (isinstance(error, RetryableError) and error.disconnected):
            return error
    try:  # once more, because a connection may be lost by accident
        return await get(path)
    except ServerError as error:
        return error


def _identify(answers: Answers) -> _Kind | None:
    """Return the kind of a server by its responses."""
    for kind in _KINDS:
        for path, keys in kind.answers.items():
            answer = answers[path]
            if isinstance(answer, dict) and keys <= answer.keys():
                return kind
    owners = {kind.owned_by: kind for kind in _KINDS if kind.owned_by is not None}
    for path in _LISTS:
        for entry in _entries(answers[path]):
            if owner := owners.get(str(entry.get("owned_by"))):
                return owner
    version = answers["/version"]
    if isinstance(version, dict) and set(version) == {"version"}:
        return _VLLM  # its models are hidden behind a key
    errors = [answer for answer in answers.values() if isinstance(answer, ServerError)]
    headers = {error.software for error in errors if error.software}
    return next((kind for kind in _KINDS if kind.header in headers), None)


async def _identify_by_page(get: Get) -> _Kind | None:
    """Return the kind of a server by its OpenAPI page, which is large and slow on some servers."""
    for path in _PAGES:
        page = await _read(get, path)
        if not isinstance(page, dict):
            continue
        info, paths = page.get("info"), page.get("paths")
        title = str(info.get("title")).lower() if isinstance(info, dict) else ""
        for kind in _KINDS:
            if kind.title is not None and kind.title in title:
                return kind
        for kind in _KINDS:
            if isinstance(paths, dict) and kind.page_path in paths:
                return kind
    return None


def _listed_info(answers: Answers, model: str | None) -> ServerInfo:
    """Return the metadata that servers of any kind report: the list of models, and the version."""
    listed = _entries(answers["/v1/models"]) or _entries(answers["/models"])
    chosen, alternatives = _choose(listed, model)
    return ServerInfo(
        version=_text(answers["/version"], "version"),
        models=tuple(entry["id"] for entry in chosen),
        sources=_texts(entry.get("root") for entry in chosen),
        max_length=_length(*(entry.get("max_model_len") for entry in chosen)),
        alternatives=alternatives,
        refusal=_refusal(answers["/v1/models"]),
    )


def _merge(kind: str, listed: ServerInfo, own: ServerInfo) -> ServerInfo:
    """Add what a kind of server reports elsewhere to the metadata from its list of models."""
    return replace(
        listed,
        kind=kind,
        version=listed.version or own.version,
        models=listed.models or own.models,
        sources=tuple(dict.fromkeys([*listed.sources, *own.sources])),
        max_length=listed.max_length or own.max_length,
        generates=own.generates,
    )


# What each kind of server reports besides its list of models


def _read_nothing(_: Answers) -> ServerInfo:
    return ServerInfo()


def _read_sglang(answers: Answers) -> ServerInfo:
    paths = ("/model_info", "/get_model_info")
    responses = (answers[path] for path in paths if isinstance(answers[path], dict))
    info: dict[str, Any] = next(responses, {})
    generates = info.get("is_generation")
    return ServerInfo(
        sources=_texts([info.get("model_path"), info.get("tokenizer_path")]),
        generates=generates if isinstance(generates, bool) else None,
    )


def _read_tei(answers: Answers) -> ServerInfo:
    info = answers["/info"]
    names = _texts([info.get("model_id")])
    return ServerInfo(
        version=_text(info, "version"),
        models=names,
        sources=names,
        max_length=_length(info.get("max_input_length")),
    )


def _read_xinference(answers: Answers) -> ServerInfo:
    return ServerInfo(version=_text(answers["/v1/cluster/version"], "version"))


def _read_llama_cpp(answers: Answers) -> ServerInfo:
    props = answers["/props"]
    settings = props.get("default_generation_settings") if isinstance(props, dict) else None
    # The context of one slot: what --parallel leaves for each of them.
    length = settings.get("n_ctx") if isinstance(settings, dict) else None
    return ServerInfo(version=_text(props, "build_info"), max_length=_length(length))


@dataclass(frozen=True)
class _Kind:
    """
    A kind of server: how to identify it, and how to read its own endpoints.

    Attributes:
        name: The name of the kind.
        answers: The paths of its own endpoints, each with keys that only its response has.
        owned_by: The `owned_by` of its models in the list.
        header: Its `Server` header, which its errors carry too.
        title: A part of the title of its OpenAPI page, in lower case.
        page_path: A path that only its OpenAPI page lists.
        read: Returns the metadata that its own endpoints report.
    """

    name: str
    answers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    owned_by: str | None = None
    header: str | None = None
    title: str | None = None
    page_path: str | None = None
    read: Callable[[Answers], ServerInfo] = _read_nothing


_MODEL_INFO = frozenset({"model_path", "is_generation"})
_VLLM = _Kind("vLLM", owned_by="vllm")
_KINDS = (
    # First, because it also answers as other kinds do.
    _Kind("qwen3-reranker", answers={"/version": frozenset({"version", "software"})}),
    _Kind(
        "SGLang",
        answers={"/model_info": _MODEL_INFO, "/get_model_info": _MODEL_INFO},
        owned_by="sglang",
        read=_read_sglang,
    ),
    _Kind(
        "TEI",
        answers={"/info": frozenset({"model_id", "max_client_batch_size"})},
        read=_read_tei,
    ),
    _Kind(
        "Xinference",
        answers={"/v1/cluster/version": frozenset({"version", "full-revisionid"})},
        title="xinference",
        page_path="/v1/cluster/version",  # version 4.1 has FastAPI's default title
        read=_read_xinference,
    ),
    _Kind(
        "llama.cpp",
        answers={"/props": frozenset({"default_generation_settings"})},
        owned_by="llamacpp",
        header="llama.cpp",
        read=_read_llama_cpp,
    ),
    _VLLM,
    _Kind("Infinity", owned_by="infinity", title="infinity"),
    _Kind("LiteLLM", title="litellm"),
)
_PATHS = (*_LISTS, *dict.fromkeys(path for kind in _KINDS for path in kind.answers))


# The list of models


def _entries(answer: Any) -> list[dict[str, Any]]:
    """Return the models of a list in OpenAI's format."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        return []
    return [e for e in data if isinstance(e, dict) and isinstance(e.get("id"), str) and e["id"]]


def _choose(
    listed: Sequence[dict[str, Any]], model: str | None
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the entries of the model to use, and the names of others that may be the reranker."""
    if model is not None:
        named = [entry for entry in listed if entry["id"] == model]
        # A server with a single model may accept any name for it.
        return named or (list(listed) if len(_by_source(listed)) == 1 else []), ()
    listed = [entry for entry in listed if not entry.get("parent")] or listed  # no LoRA adapters
    for likely in (_says_reranker, _is_named_reranker, lambda entry: not _uses(entry)):
        if matching := [entry for entry in listed if likely(entry)]:
            listed = matching
            break
    listed = [entry for entry in listed if "qwen3" in _names(entry)] or listed
    models = _by_source(listed)
    if not models:
        return [], ()
    chosen, *others = models.values()
    return chosen, tuple(entry["id"] for entries in others for entry in entries)


def _by_source(listed: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group entries by model, because one model may have several names."""
    models: dict[str, list[dict[str, Any]]] = {}
    for entry in listed:
        root = entry.get("root")
        models.setdefault(root if isinstance(root, str) and root else entry["id"], []).append(entry)
    return models


def _uses(entry: Mapping[str, Any]) -> str:
    return " ".join(str(entry[key]).lower() for key in _USES if entry.get(key))


def _names(entry: Mapping[str, Any]) -> str:
    return f"{entry['id']} {entry.get('root')}".lower()


def _says_reranker(entry: Mapping[str, Any]) -> bool:
    return "rerank" in _uses(entry)


def _is_named_reranker(entry: Mapping[str, Any]) -> bool:
    return "rerank" in _names(entry) and not _uses(entry)


def _refusal(answer: Any) -> str | None:
    return str(answer) if is_key_refusal(answer) else None


# Values of the expected type


def _text(answer: Any, key: str) -> str | None:
    value = answer.get(key) if isinstance(answer, dict) else None
    return value if isinstance(value, str) and value else None


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def _length(*values: Any) -> int | None:
    return next((value for value in values if type(value) is int and value > 0), None)
