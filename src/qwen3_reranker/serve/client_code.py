"""What clients of a server have to be told: the lines of Python that use it, and its length."""

from __future__ import annotations

from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.serve.command import Launch

__all__ = ["client_max_length", "usage"]


def usage(launch: Launch) -> tuple[str, str]:
    """
    Return a line of Python for LangChain and one for LlamaIndex that use the server.

    Args:
        launch: The server.
    """
    arguments = [f"base_url={launch.url!r}"]
    if launch.key is not None:
        arguments.append(f'api_key=os.environ["{launch.key.variable}"]')
    if (length := client_max_length(launch)) is not None:
        arguments.append(f"max_length={length}")
    rest = f"import Qwen3Rerank; reranker = Qwen3Rerank({', '.join(arguments)})"
    start = "import os; " if launch.key is not None else ""
    return (
        f"{start}from qwen3_reranker.langchain {rest}",
        f"{start}from qwen3_reranker.llama_index {rest}",
    )


def client_max_length(launch: Launch) -> int | None:
    """
    Return the `max_length` that clients have to be given; None if it is their default.

    A client that is not told cuts prompts at 8192 tokens, or at what the server takes if that is
    less. With vLLM, this is one token above the longest prompt that the server was started for.

    Args:
        launch: The server.
    """
    return None if launch.max_length == DEFAULT_MAX_LENGTH else launch.max_length
