"""Make the scorer that the arguments of a `Reranker` describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwen3_reranker.caching import CachedScorer, ScoreCache
from qwen3_reranker.errors import InputError
from qwen3_reranker.options import declared
from qwen3_reranker.passages.options import (
    LongDocumentOptions,
    passage_options,
    pop_long_document_options,
)
from qwen3_reranker.passages.scorer import PassageScorer
from qwen3_reranker.remote.options import ServerOptions
from qwen3_reranker.scorer import Scorer

__all__ = ["DEFAULT_MODEL", "RerankerOptions", "make_scorer"]

DEFAULT_MODEL = "Qwen/Qwen3-Reranker-0.6B"
"""The model that an embedded engine runs if none is given."""

# The arguments that only an embedded engine can use. `timeout` is for engines and for servers.
_EMBEDDED = ("engine", "engine_args", "engine_python", "devices", "check", "quiet")
_DEFAULTS = {"engine": "auto", "check": True, "quiet": False}


class RerankerOptions(LongDocumentOptions, ServerOptions, total=False):
    """The options of `Reranker` that are declared elsewhere."""


def make_scorer(
    scorer: Scorer | None = None, cache: ScoreCache | None = None, **settings: Any
) -> Scorer:
    """
    Return the scorer of a `Reranker`: the one that was given, or one made from settings.

    Args:
        scorer: The scorer to use. It excludes settings, except for those of long documents.
        cache: A store for scores. None computes them each time.
        **settings: The arguments of `Reranker` that make a scorer. An argument that is None or has
            its default counts as not given.

    Raises:
        InputError: An argument cannot be used, or not together with another one.
        TypeError: An argument has an unknown name.
    """
    long_documents = pop_long_document_options(settings)
    passages = passage_options(long_documents)
    for name, default in _DEFAULTS.items():
        if settings.get(name) == default:
            settings[name] = None
    if scorer is None:
        scorer = _from_settings(**settings)
    elif given := [name for name, value in settings.items() if value is not None]:
        raise InputError(f"scorer= is given, and {', '.join(given)} too: it has its own")
    if cache is not None:
        scorer = CachedScorer(scorer, cache)
    return scorer if passages is None else PassageScorer(scorer, **passages)


def _from_settings(
    *,
    model: str | None,
    base_url: str | Sequence[str] | None,
    max_length: int | None,
    **options: Any,
) -> Scorer:
    """Return an embedded scorer, or a remote one if there is a `base_url`."""
    if model is not None and not str(model).strip():
        raise InputError(f"model={model!r}: give the name of a model, or None for the default")
    if max_length is not None and (
        isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1
    ):
        raise InputError(f"max_length={max_length!r}: give a number of tokens, or None")
    embedded = {name: options.pop(name) for name in _EMBEDDED if name in options}
    embedded = {name: value for name, value in embedded.items() if value is not None}
    server = options
    if unknown := [f"{name}=" for name in server if name not in declared(ServerOptions)]:
        raise TypeError(
            f"unexpected keyword argument {', '.join(unknown)} (the engine's own arguments, such "
            "as dtype, belong in engine_args=)"
        )
    if base_url is None:
        if others := [f"{name}=" for name in server if name != "timeout"]:
            names = ", ".join(others)
            raise InputError(f"only a server can use {names}: give base_url= too, or leave it out")
        from qwen3_reranker.embedded.scorer import EmbeddedScorer

        model = DEFAULT_MODEL if model is None else model
        return EmbeddedScorer(model, max_length=max_length, **embedded, **server)
    if embedded:
        names = ", ".join(f"{name}=" for name in embedded)
        raise InputError(
            f"only an embedded engine can use {names}: leave it out, or leave base_url= out"
        )
    from qwen3_reranker.remote.scorer import RemoteScorer

    return RemoteScorer(base_url, model=model, max_length=max_length, **server)
