"""A real gateway in front of another server."""

from __future__ import annotations

import sys
from pathlib import Path

from support.helpers import INSTRUCTION
from support.servers.processes import MAX_LENGTH, Server

__all__ = ["ALIAS", "gateway_server"]

ALIAS = "python-questions"
"""A name that stands for the model with `support.helpers.INSTRUCTION`."""


def gateway_server(upstream: Server, log: Path) -> Server:
    """Return a gateway with one alias and no key, not started yet; `log` gets its output."""
    command = [
        *(sys.executable, "-m", "qwen3_reranker", "gateway"),
        *("--base-url", upstream.url, "--port", "{port}"),
        *("--max-length", str(MAX_LENGTH), "--alias", f"{ALIAS}={INSTRUCTION}"),
    ]
    return Server(command, log, health="/ready", served=upstream.served)
