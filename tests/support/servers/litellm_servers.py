"""A real LiteLLM proxy before two other servers, from an environment of its own (`make setup`)."""

from __future__ import annotations

import json
from pathlib import Path

from support.servers.processes import Server

__all__ = ["INFINITY_MODEL", "JINA", "LITELLM", "MODEL", "litellm_server"]

LITELLM = Path(__file__).parents[3] / ".venv-litellm/bin/litellm"
# The names that the proxy knows the same model by: forwarded as to vLLM; as to Jina, whose requests
# have no instruction, so that the proxy drops it without a word; and to Infinity.
MODEL = "qwen3-reranker"
JINA = "qwen3-reranker-as-jina"
INFINITY_MODEL = "qwen3-reranker-in-infinity"
# Its keys begin so.
KEY = "sk-of-the-tests"


def litellm_server(vllm: Server, infinity: Server, log: Path) -> Server:
    """Return a proxy that forwards to a vLLM and an Infinity server; not started yet."""
    models = {
        MODEL: (f"hosted_vllm/{vllm.served}", f"{vllm.url}/v1"),
        JINA: (f"jina_ai/{vllm.served}", f"{vllm.url}/v1/rerank"),
        INFINITY_MODEL: (f"infinity/{infinity.served}", infinity.url),
    }
    config = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": model,
                    "api_base": base,
                    "api_key": "none",
                },
            }
            for name, (model, base) in models.items()
        ],
        "general_settings": {"master_key": KEY},
    }
    path = log.with_suffix(".yaml")
    path.write_text(json.dumps(config))
    command = [
        *(str(LITELLM), "--config", str(path), "--telemetry", "False"),
        *("--host", "127.0.0.1", "--port", "{port}"),
    ]
    # Its prices come from the internet otherwise, after three tries.
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Server(command, log, env=env, health="/health/liveliness", served=MODEL, key=KEY)
