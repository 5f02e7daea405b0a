"""A real gateway on the demo model, in front of its own engine."""

from __future__ import annotations

import sys
from pathlib import Path

from support.helpers import INSTRUCTION
from support.servers.processes import MAX_LENGTH, Server

__all__ = ["ALIAS", "gateway_server"]

ALIAS = "python-questions"
"""A name that stands for the model with `support.helpers.INSTRUCTION`."""


def gateway_server(log: Path) -> Server:
    """Return a gateway with one alias and no key, not started yet; `log` gets its output."""
    command = [
        *(sys.executable, "-m", "qwen3_reranker", "gateway", "demo", "--port", "{port}"),
        *("--dtype", "float32", "--max-length", str(MAX_LENGTH), "--eager"),
        *("--alias", f"{ALIAS}={INSTRUCTION}"),
    ]
    return Server(command, log, health="/ready", served="demo")
