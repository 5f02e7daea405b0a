"""The arguments of a run's rerankers, and those of them that scores depend on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qwen3_reranker import event_loop
from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.errors import InputError
from qwen3_reranker.options import declared
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.redaction import conceal
from qwen3_reranker.remote.options import ServerOptions
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.scorer import Scorer
from qwen3_reranker.scorer_factory import make_scorer
from qwen3_reranker.selection import Selection
from qwen3_reranker.version import __version__

__all__ = ["bulk_options", "runs_engine", "score_settings"]

# How a server is reached plays no part: a run may continue with the same model elsewhere.
_SERVER = ServerOptions.__annotations__.keys() - {"dialect", "template", "tokenizer"}
# Nor does what differs between machines, of the arguments and of `engine_args`.
_MACHINE = {"engine_python", "devices"}
_ENGINE_ARGS = {"hf_token", "data_parallel_size"}
_LONG_DOCUMENTS = LongDocumentOptions.__annotations__.keys()
_DEFAULTS = {
    name: option.default
    for options in (ServerOptions, LongDocumentOptions)
    for name, (_, option) in declared(options).items()
}
# The digest of the model's files covers the engine, so that "auto" and its meaning are the same.
_IGNORED = {*_SERVER, *_MACHINE, "engine", "base_url", "model", "check", "quiet", "cache", "scorer"}


def bulk_options(
    model: str | None,
    base_url: str | Sequence[str] | None,
    options: Mapping[str, Any],
    *,
    top_n: int | None = None,
) -> dict[str, Any]:
    """
    Return the arguments of the rerankers, with secrets concealed.

    Args:
        model: The model.
        base_url: The servers.
        options: The other arguments of `Reranker`.
        top_n: The maximum number of hits per row, which is only checked.

    Raises:
        InputError: An argument cannot be used.
        TypeError: An argument has an unknown name.
    """
    if "on_error" in options:
        raise InputError(
            "on_error= cannot be used: a run ends if scoring fails, and can be continued"
        )
    Selection(top_n=top_n)
    checked = conceal({"model": model, "base_url": base_url, **options})
    if options.get("scorer") is None:  # which would be closed, too
        Reranker(**checked).close()  # starts nothing
    return checked


def runs_engine(options: Mapping[str, Any]) -> bool:
    """
    Return whether a reranker runs an engine, rather than calls a server or a given scorer.

    Args:
        options: The arguments of the reranker.
    """
    return options.get("base_url") is None and options.get("scorer") is None


def score_settings(
    options: Mapping[str, Any], top_n: int | None, columns: Columns
) -> dict[str, Any]:
    """
    Return what the results depend on besides the input, as JSON values without secrets.

    The files of an embedded model are read, and a server is detected.

    Args:
        options: The arguments of the rerankers.
        top_n: The maximum number of hits per row.
        columns: The columns that are read.

    Raises:
        CheckpointError: The embedded model is not a Qwen3 reranker.
        ServerError: The server cannot be reached or detected.
    """
    given = {
        name: value
        for name, value in options.items()
        if name not in _IGNORED and value not in (None, _DEFAULTS.get(name))
    }
    arguments = given.pop("engine_args", {})
    if kept := {name: arg for name, arg in arguments.items() if name not in _ENGINE_ARGS}:
        given["engine_args"] = kept
    model, files = _model(options)
    settings = {
        "model": model,
        **given,
        "top_n": top_n,
        **asdict(columns),
        "version": __version__,
        "model_files": files,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=_described))
    return plain


def _described(value: object) -> str:
    """Return a description that is the same in another process: it contains no address."""
    if name := getattr(value, "__qualname__", None):  # of a function or a class
        return f"{value.__module__}.{name}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _model(options: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the model's name and, of an embedded one, a digest of its files and settings."""
    given: Scorer | None = options.get("scorer")
    if given is not None:
        return given.model, None
    settings = {name: options.get(name) for name in ("model", "base_url", "max_length")}
    # Those of long documents are compared by themselves.
    others = {"instruction", "cache", "scorer", *settings, *_MACHINE, *_LONG_DOCUMENTS}
    scorer = make_scorer(
        **settings, **{name: value for name, value in options.items() if name not in others}
    )
    try:
        if runs_engine(options):
            return scorer.model, event_loop.run(scorer.fingerprint())
        event_loop.run(scorer.start())
        return scorer.model, None
    finally:
        event_loop.close(scorer.aclose())
