"""Generate the lines of Python that use a server."""

from __future__ import annotations

from qwen3_reranker.serve.command import Launch

__all__ = ["usage"]


def usage(launch: Launch) -> tuple[str, str]:
    """
    Return a line of Python for LangChain and one for LlamaIndex that use the server.

    Args:
        launch: The server.
    """
    key = launch.key and f', api_key=os.environ["{launch.key.variable}"]'
    rest = f"import Qwen3Rerank; reranker = Qwen3Rerank(base_url={launch.url!r}{key or ''})"
    start = "import os; " if key else ""
    return (
        f"{start}from qwen3_reranker.langchain {rest}",
        f"{start}from qwen3_reranker.llama_index {rest}",
    )
