"""
The list of models, as OpenAI's clients read it, with the fields that Xinference's clients read.

    {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "qwen3-reranker", ...}]}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["describe", "describe_all"]

_OWNER = "qwen3-reranker"


def describe(name: str, model: str) -> dict[str, Any]:
    """
    Return the entry of a model or an alias.

    Args:
        name: The name that a request may give.
        model: The model that it stands for.
    """
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": _OWNER,
        "root": model,
        "model_type": "rerank",
        "model_name": name,
        "model_uid": name,
    }


def describe_all(names: Iterable[str], model: str) -> dict[str, Any]:
    """
    Return the list of models.

    Args:
        names: The names that a request may give.
        model: The model that they stand for.
    """
    return {"object": "list", "data": [describe(name, model) for name in names]}
