"""
A page to understand a ranking: scores, moves, cuts, passages, prompts, and comparisons.

The command `qwen3-reranker playground` runs it. It needs the extra `playground`.
"""

from qwen3_reranker.errors import MissingDependencyError

try:
    from qwen3_reranker.playground.page import create_page
    from qwen3_reranker.playground.server import mount_page
except ModuleNotFoundError as error:
    if error.name != "gradio":
        raise
    raise MissingDependencyError(
        f"the playground needs gradio: pip install 'qwen3-reranker[playground]' ({error})"
    ) from error

__all__ = ["create_page", "mount_page"]
