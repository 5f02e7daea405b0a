"""Server metadata, read from a few inexpensive GET endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3_reranker.errors import ServerError
from qwen3_reranker.remote.transport import RetryableError

__all__ = ["ServerInfo", "read_server_info"]

Get = Callable[[str], Awaitable[Any]]

# Paths that only one kind of server answers, with the keys of its answer.
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
# Xinference 4.1 has FastAPI's default title.
_PAGE_PATHS = {"/v1/cluster/version": "Xinference"}
# llama.cpp's `Server` header is on the 401 of a wrong key too.
_HEADERS = {"llama.cpp": "llama.cpp"}
_VERSIONS = (
    ("/version", "version"),
    ("/info", "version"),
    ("/v1/cluster/version", "version"),
    ("/props", "build_info"),
)
_LIST = "/v1/models"
_PATHS = (
    _LIST,
    "/models",  # Infinity without --url-prefix
    "/version",
    *(path for tells in _KINDS.values() for path, _ in tells),
)
# Infinity serves its page below --url-prefix, which is usually /v1.
_PAGES = ("/openapi.json", "/v1/openapi.json")
# Fields of a list of models that say what a model does.
_USES = ("capabilities", "model_type", "type", "task", "mode")


@dataclass(frozen=True)
class ServerInfo:
    """
    What a server says of itself, and of the one of its models that is used.

    Attributes:
        kind: "vLLM", "SGLang", ...; None if nothing identifies it.
        version: The server's version, if it says one.
        models: The names under which the model is served, aliases included.
        sources: Where the model came from, as far as the server says: folders or hub names.
        max_length: The most tokens that the model takes, if the server says it.
        generates: Whether the model generates text, if the server says it.
        alternatives: The names of other listed models that may just as well be the reranker.
        refusal: The server's message if it refused to list its models for want of the right key.
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
    Ask a server what it is. Costs a few milliseconds on one that answers.

    What cannot be read stays unknown: gateways drop connections for paths that they do not have.

    Args:
        get: Returns the JSON answer of a path, or raises `ServerError`.
        model: The name of the model to use; None takes the one that the list calls a reranker, or
            the first.
        pages: Whether a kind that nothing else tells is looked for in the server's descriptions of
            itself, which are large. A server that leaves a path unanswered is not asked for them.

    Raises:
        RetryableError: No path was answered at all.
    """
    found = await asyncio.gather(*(_read(get, path) for path in _PATHS))
    answers = dict(zip(_PATHS, found, strict=True))
    silent = [a for a in found if isinstance(a, RetryableError) and a.status is None]
    if len(silent) == len(found):
        raise silent[0]
    kind = _kind(answers)
    if kind is None and pages and not silent:
        kind = await _kind_of_pages(get)
    listed = _listed(answers[_LIST]) or _listed(answers["/models"])
    chosen, alternatives = _choose(listed, model)
    about = next(
        (
            answer
            for path in ("/model_info", "/get_model_info", "/info")
            if isinstance(answer := answers[path], dict)
        ),
        {},
    )
    versions = [
        answer.get(key) for path, key in _VERSIONS if isinstance(answer := answers[path], dict)
    ]
    sources = [entry.get("root") for entry in chosen]
    sources += [about.get(key) for key in ("model_path", "tokenizer_path", "model_id")]
    names = [entry["id"] for entry in chosen] or [about.get("model_id")]
    lengths = [entry.get("max_model_len") for entry in chosen] + [about.get("max_input_length")]
    lengths.append(_slot_length(answers["/props"]))
    return ServerInfo(
        kind,
        next((v for v in versions if isinstance(v, str) and v), None),
        tuple(name for name in names if isinstance(name, str) and name),
        tuple(dict.fromkeys(s for s in sources if isinstance(s, str) and s)),
        next((n for n in lengths if type(n) is int and n > 0), None),
        generates if isinstance(generates := about.get("is_generation"), bool) else None,
        alternatives,
        _refusal(answers[_LIST]),
    )


async def _read(get: Get, path: str) -> Any:
    """Return a path's answer, or the error that it failed with."""
    try:
        return await get(path)
    except ServerError as error:
        if not (isinstance(error, RetryableError) and error.disconnected):
            return error
    try:  # once more: a connection may be lost by accident
        return await get(path)
    except ServerError as error:
        return error


def _listed(answer: Any) -> list[dict[str, Any]]:
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        return []
    return [e for e in data if isinstance(e, dict) and isinstance(e.get("id"), str) and e["id"]]


def _choose(
    listed: Sequence[dict[str, Any]], model: str | None
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the entries of the model to use, and the names of those that may be it as well."""
    if model is not None:
        named = [entry for entry in listed if entry["id"] == model]
        # A server with one model may take any name for it.
        return named or (list(listed) if len(_by_source(listed)) == 1 else []), ()
    listed = [entry for entry in listed if not entry.get("parent")] or listed  # no LoRA adapters
    for likely in (_says_reranker, _is_named_reranker, lambda entry: not _uses(entry)):
        if found := [entry for entry in listed if likely(entry)]:
            listed = found
            break
    listed = [entry for entry in listed if "qwen3" in _names(entry)] or listed
    models = _by_source(listed)
    if not models:
        return [], ()
    chosen, *others = models.values()
    return chosen, tuple(entry["id"] for entries in others for entry in entries)


def _by_source(listed: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of each model: several names may stand for the same one."""
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
    refused = isinstance(answer, ServerError) and answer.status in (401, 403)
    return str(answer) if refused else None


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
    for path in (_LIST, "/models"):
        for entry in _listed(answers[path]):
            if template_by := _OWNERS.get(str(entry.get("owned_by"))):
                return template_by
    version = answers["/version"]
    if isinstance(version, dict) and set(version) == {"version"}:
        return "vLLM"  # its models are hidden behind a key
    headers = (answer.software for answer in answers.values() if isinstance(answer, ServerError))
    return next((_HEADERS[header] for header in headers if header in _HEADERS), None)


async def _kind_of_pages(get: Get) -> str | None:
    """Return the kind by the OpenAPI page: large and slow on some servers, so the last resort."""
    for path in _PAGES:
        page = await _read(get, path)
        if not isinstance(page, dict):
            continue
        info, paths = page.get("info"), page.get("paths")
        title = str(info.get("title")).lower() if isinstance(info, dict) else ""
        for word, kind in _TITLES.items():
            if word in title:
                return kind
        for known, kind in _PAGE_PATHS.items():
            if isinstance(paths, dict) and known in paths:
                return kind
    return None
