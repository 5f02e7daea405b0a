"""A real Infinity server on the CPU, from an environment of its own (`make setup` makes it)."""

from __future__ import annotations

from pathlib import Path

from support.servers.processes import Server

__all__ = ["INFINITY", "infinity_server"]

INFINITY = Path(__file__).parents[3] / ".venv-infinity/bin/infinity_emb"
ENV = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
}


def infinity_server(model: Path, log: Path) -> Server:
    """
    Return a server of `model`, not started yet.

    Args:
        model: The folder of a checkpoint with one label.
        log: The file that gets the server's output.
    """
    command = [
        *(str(INFINITY), "v2", "--model-id", str(model), "--served-model-name", str(model)),
        *("--host", "127.0.0.1", "--port", "{port}"),
        *("--engine", "torch", "--device", "cpu", "--dtype", "float32"),
        *("--no-bettertransformer", "--no-model-warmup"),
    ]
    return Server(command, log, env=ENV, served=str(model))
