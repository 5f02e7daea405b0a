"""
An HTTP server that speaks the rerank APIs of Jina, Cohere, TEI, vLLM, Xinference and others.

It scores as a `Reranker` does, so that platforms which know only these APIs get the right prompt,
long documents, and several servers with fail-over. The command `qwen3-reranker gateway` runs it.

Example:
    from fastapi import FastAPI
    from qwen3_reranker import Reranker
    from qwen3_reranker.gateway import AliasConfig, GatewayConfig, create_app

    instruction = "Given a bug report, retrieve reports of the same bug"
    config = GatewayConfig(aliases={"tickets": AliasConfig(instruction=instruction)})
    app = FastAPI()
    app.mount("/reranker", create_app(Reranker("demo"), config))
"""

from qwen3_reranker.errors import MissingDependencyError

try:
    from qwen3_reranker.gateway.app import create_app
    from qwen3_reranker.gateway.backend import MakeReranker
    from qwen3_reranker.gateway.config import AliasConfig, GatewayConfig, read_config
    from qwen3_reranker.gateway.limits import Limits
    from qwen3_reranker.gateway.records import Observer, RequestRecord
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "prometheus_client", "pydantic", "starlette"):
        raise
    raise MissingDependencyError(
        f"the gateway needs {error.name}: pip install 'qwen3-reranker[gateway]' ({error})"
    ) from error

__all__ = [
    "AliasConfig",
    "GatewayConfig",
    "Limits",
    "MakeReranker",
    "Observer",
    "RequestRecord",
    "create_app",
    "read_config",
]
