"""The arguments of a run's rerankers, and those of them that scores depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qwen3_reranker import event_loop
from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.errors import InputError
from qwen3_reranker.redaction import conceal
from qwen3_reranker.remote.options import ServerOptions
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.scorer import Scorer
from qwen3_reranker.scorer_factory import make_scorer
from qwen3_reranker.version import __version__

__all__ = ["bulk_options", "score_settings"]

# How a server is reached plays no part: a run may continue with the same model elsewhere.
_SERVER = ServerOptions.__annotations__.keys() - {"dialect", "template", "tokenizer"}
# The digest of the model's files covers the engine, so that "auto" and its meaning are the same.
_MACHINE = {"engine", "engine_python", "devices"}
_IGNORED = {*_SERVER, *_MACHINE, "base_url", "model", "check", "quiet", "cache", "scorer"}


def bulk_options(
    model: str | None, base_url: str | Sequence[str] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return the arguments of the rerankers, with secrets concealed.

    Args:
        model: The model.
        base_url: The servers.
        options: The other arguments of `Reranker`.

    Raises:
        InputError: An argument cannot be used.
        TypeError: An argument has an unknown name.
    """
    if "on_error" in options:
        raise InputError("on_error= cannot be used: a run stops if scoring fails, and continues")
    checked = conceal({"model": model, "base_url": base_url, **options})
    if options.get("scorer") is None:  # which would be closed, too
        Reranker(**checked).close()  # starts nothing
    return checked


def score_settings(
    options: Mapping[str, Any], top_n: int | None, columns: Columns
) -> dict[str, Any]:
    """
    Return what the results depend on besides the input, as JSON values without secrets.

    The files of an embedded model are read, and a server is detected.

    Raises:
        CheckpointError: The embedded model is not a Qwen3 reranker.
        ServerError: The server cannot be reached or detected.
    """
    given = {
        name: value for name, value in options.items() if name not in _IGNORED and value is not None
    }
    arguments = given.get("engine_args")
    if isinstance(arguments, Mapping):
        given["engine_args"] = {k: v for k, v in arguments.items() if k != "hf_token"}
    model, files = _model(options)
    settings = {
        "model": model,
        **given,
        "top_n": top_n,
        **asdict(columns),
        "version": __version__,
        "model_files": files,  # the last: what can be read explains a difference better
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=repr))
    return plain


def _model(options: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the model's name and, of an embedded one, a digest of its files and settings."""
    given: Scorer | None = options.get("scorer")
    if given is not None:
        return given.model, None
    settings = {name: options.get(name) for name in ("model", "base_url", "max_length")}
    others = ("instruction", "cache", "scorer", *settings)
    scorer = make_scorer(
        **settings, **{name: value for name, value in options.items() if name not in others}
    )
    try:
        if options.get("base_url") is None:
            return scorer.model, event_loop.run(scorer.fingerprint())
        event_loop.run(scorer.start())
        return scorer.model, None
    finally:
        event_loop.close(scorer.aclose())
