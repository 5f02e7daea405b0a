"""A real llama.cpp server, from an environment of its own (`make setup` makes it)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.servers.processes import MAX_LENGTH, Server

__all__ = ["LLAMA_CPP", "llama_cpp_server", "write_gguf"]

HERE = Path(__file__).parent
LLAMA_CPP = HERE.parents[2] / ".venv-llama-cpp/bin/python"
PROGRAM = str(HERE / "llama_cpp_process.py")


def llama_cpp_server(model: Path, log: Path) -> Server:
    """
    Return a server of `model`, not started yet.

    Args:
        model: The folder of the original (causal) checkpoint; its GGUF file is written beside the
            log.
        log: The file that gets the server's output.
    """
    gguf = log.with_suffix(".gguf")
    command = [str(LLAMA_CPP), PROGRAM, str(model), str(gguf), "{port}", str(MAX_LENGTH)]
    return Server(command, log, served=str(gguf))


def write_gguf(model: Path, gguf: Path) -> None:
    """Write the original checkpoint in the folder `model` as a GGUF file."""
    subprocess.run([str(LLAMA_CPP), PROGRAM, str(model), str(gguf)], check=True)
