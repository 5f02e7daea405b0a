"""Real SGLang servers on the CPU, from an environment of their own (`make setup` makes it)."""

from __future__ import annotations

import os
from pathlib import Path

from qwen3_reranker.model.template import TEMPLATES
from qwen3_reranker.serve import launch

from support.servers.processes import MAX_LENGTH, Server

__all__ = ["PYTHON", "RERANK_TEMPLATE", "launched_sglang", "sglang_server"]

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("SGLANG_PYTHON", HERE.parents[2] / ".venv-sglang/bin/python"))
RERANK_TEMPLATE = TEMPLATES / "sglang_rerank.jinja"
ENV = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "PYTHONPATH": str(HERE / "sglang_shims"),
    "SGLANG_USE_CPU_ENGINE": "1",
}
SMALL = (
    *("--attention-backend", "torch_native", "--max-total-tokens", "8192"),
    # It would keep a core busy between requests.
    "--sleep-on-idle",
)


def sglang_server(
    model: Path, log: Path, *, template: Path | None = None, key: str = "", served: str = ""
) -> Server:
    """
    A server of `model`, not started yet.

    Args:
        model: The checkpoint's folder.
        log: The file that gets the server's output.
        template: The chat template that /v1/rerank writes the prompt with; None: none.
        key: The API key that the server asks for.
        served: The model's name in requests; "" takes the folder's path, as SGLang does.
    """
    command = [
        *(str(PYTHON), "-m", "sglang.launch_server"),
        *("--host", "127.0.0.1", "--port", "{port}", "--model-path", str(model)),
        *("--device", "cpu", "--dtype", "float32", "--context-length", str(MAX_LENGTH)),
        *SMALL,
    ]
    if template is not None:
        command += ["--chat-template", str(template)]
    if key:
        command += ["--api-key", key]
    if served:
        command += ["--served-model-name", served]
    return Server(command, log, env=ENV, served=served or str(model), key=key)


def launched_sglang(model: Path, log: Path) -> Server:
    """
    A server of `model` with the command that `serve` runs, not started yet.

    Args:
        model: The checkpoint's folder.
        log: The file that gets the server's output.
    """
    chosen = launch(
        model,
        engine="sglang",
        python=str(PYTHON),
        device="cpu",
        dtype="float32",
        max_length=MAX_LENGTH,
        extra=SMALL,
    )
    env = {**ENV, **chosen.environment}
    command = [*chosen.argv, "--port", "{port}"]  # the last one counts
    return Server(command, log, env=env, served=chosen.served_name)
