"""Start a server of a Qwen3 reranker, or write a script or compose file that starts it."""

from qwen3_reranker.serve.command import Launch, launch
from qwen3_reranker.serve.manifests import compose, shell, usage
from qwen3_reranker.serve.server_process import Server, serve

__all__ = ["Launch", "Server", "compose", "launch", "serve", "shell", "usage"]
