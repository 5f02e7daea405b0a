"""A real Xinference server on the CPU, from an environment of its own (`make test-xinference`)."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support.servers.llama_cpp_servers import write_gguf
from support.servers.processes import MAX_LENGTH, Server

__all__ = ["GGUF_MODEL", "MODEL", "XINFERENCE", "launch_models", "xinference_server"]

XINFERENCE = Path(__file__).parents[3] / ".venv-xinference/bin/xinference-local"
# The same model in two engines: sentence-transformers and llama.cpp.
MODEL = "qwen3-reranker"
GGUF_MODEL = "qwen3-reranker-gguf"


def xinference_server(log: Path) -> Server:
    """Return a server without models, not started yet."""
    command = [str(XINFERENCE), "-H", "127.0.0.1", "-p", "{port}"]
    env = {
        "HF_HUB_OFFLINE": "1",
        "XINFERENCE_AUTH_ADVANCED": "false",
        "XINFERENCE_DISABLE_HEALTH_CHECK": "1",
        "XINFERENCE_ENABLE_VIRTUAL_ENV": "0",
        "XINFERENCE_HOME": str(log.parent / "xinference"),
    }
    return Server(command, log, env=env, health="/v1/cluster/version", served=MODEL)


def launch_models(server: Server, folder: Path) -> None:
    """Have a running server load the demo model into both engines; `folder` gets a GGUF file."""
    _launch(
        server,
        model_uid=MODEL,
        model_engine="sentence_transformers",
        model_format="pytorch",
        quantization="none",
        model_path=str(DEMO_MODEL),
        torch_dtype="float32",
    )
    # Xinference looks for a file of this name, whatever it holds.
    gguf = folder / "Qwen3-Reranker-0.6B.Q8_0.gguf"
    write_gguf(DEMO_MODEL, gguf)
    _launch(
        server,
        model_uid=GGUF_MODEL,
        model_engine="llama.cpp",
        model_format="ggufv2",
        quantization="Q8_0",
        model_path=str(folder),
        # As in llama_cpp_process.py: one slot, and nothing in 16 bits.
        n_ctx=MAX_LENGTH,
        n_parallel=1,
        cache_type_k=0,
        cache_type_v=0,
        flash_attn_type=0,
    )


def _launch(server: Server, **settings: Any) -> None:
    body = {"model_name": "Qwen3-Reranker-0.6B", "model_type": "rerank", "n_gpu": None} | settings
    request = urllib.request.Request(
        f"{server.url}/v1/models",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        assert answer.status == 200
