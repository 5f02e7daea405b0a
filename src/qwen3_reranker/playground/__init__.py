"""
A page to understand a ranking: scores, moves, cuts, passages, prompts, and comparisons.

The command `qwen3-reranker playground` runs it. It needs the extra `playground`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qwen3_reranker.errors import MissingDependencyError

if TYPE_CHECKING:
    from qwen3_reranker.playground.page import create_page
    from qwen3_reranker.playground.server import mount_page, page_app

__all__ = ["create_page", "mount_page", "page_app"]

# gradio takes seconds to import, and most modules of this package do without it.
_MODULES = {"create_page": "page", "mount_page": "server", "page_app": "server"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise MissingDependencyError(
            f"the playground needs gradio: pip install 'qwen3-reranker[playground]' ({error})"
        ) from error
