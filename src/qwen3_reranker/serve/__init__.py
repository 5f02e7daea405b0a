"""Start a server of a Qwen3 reranker, or write a file that starts it on another machine."""

from qwen3_reranker.serve.client_code import usage
from qwen3_reranker.serve.command import Launch, launch
from qwen3_reranker.serve.compose_file import compose
from qwen3_reranker.serve.gateway_image import dockerfile
from qwen3_reranker.serve.kubernetes_manifests import kubernetes
from qwen3_reranker.serve.server_process import Server, serve
from qwen3_reranker.serve.shell_script import shell

__all__ = [
    "Launch",
    "Server",
    "compose",
    "dockerfile",
    "kubernetes",
    "launch",
    "serve",
    "shell",
    "usage",
]
