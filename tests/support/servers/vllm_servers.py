"""Real vLLM servers on the CPU, with the vLLM that the embedded engine uses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.model.template import TEMPLATES
from qwen3_reranker.serve import launch
from qwen3_reranker.serve.options import Template

from support.servers.processes import MAX_LENGTH, Server

__all__ = ["SCORE_TEMPLATE", "launched_vllm", "vllm_server"]

SCORE_TEMPLATE = TEMPLATES / "vllm_score.jinja"
# What makes vLLM read the causal checkpoint's head as the one row yes - no.
ORIGINAL = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}
ENV = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


def vllm_server(
    model: Path,
    log: Path,
    *,
    original: bool = False,
    template: Path | None = None,
    generate: bool = False,
    key: str = "",
    served: str = "",
    more: Sequence[str] = (),
) -> Server:
    """
    A server of `model`, not started yet.

    Args:
        model: The checkpoint's folder.
        log: The file that gets the server's output.
        original: Whether the checkpoint is the causal one, to be served as a classifier.
        template: The score template that the server writes the prompt with; None: none.
        generate: Whether the model writes text instead of scoring.
        key: The API key that the server asks for.
        served: The model's name in requests; "" takes the folder's path, as vLLM does.
        more: Arguments that replace those that stand here.
    """
    command = [
        *(find_engine_python(None), "-m", "vllm.entrypoints.openai.api_server"),
        *("--host", "127.0.0.1", "--port", "{port}", "--model", str(model)),
        *("--runner", "generate" if generate else "pooling"),
        *("--dtype", "float32", "--enforce-eager", "--distributed-executor-backend", "uni"),
        *("--max-model-len", str(MAX_LENGTH), "--max-num-seqs", "16"),
        *("--kv-cache-memory-bytes", str(128 * 2**20)),
        *("--disable-access-log-for-endpoints", "/health"),
    ]
    if original:
        command += ["--hf-overrides", json.dumps(ORIGINAL)]
    if template is not None:
        command += ["--chat-template", str(template)]
    if key:
        command += ["--api-key", key]
    if served:
        command += ["--served-model-name", served]
    command += more
    return Server(command, log, env=ENV, served=served or str(model), key=key)


def launched_vllm(template: Template, log: Path) -> Server:
    """
    A server of the demo model with the command that `serve` runs, not started yet.

    Args:
        template: Who writes the prompt of clients that send text.
        log: The file that gets the server's output.
    """
    extra = ("--disable-access-log-for-endpoints", "/health")
    chosen = launch("demo", template=template, dtype="float32", max_length=MAX_LENGTH, extra=extra)
    env = {**ENV, **chosen.environment}
    command = [*chosen.argv, "--port", "{port}"]  # the last one counts
    return Server(command, log, env=env, served=chosen.served_name)
