"""Find the installed version of an engine, and compare versions with those that are known."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.embedded.releases import normalize_version
from qwen3_reranker.errors import MissingDependencyError, UnsupportedVersionError
from qwen3_reranker.serve.engines import ENGINES, EngineName

__all__ = [
    "Installed",
    "check",
    "default_interpreter",
    "find",
    "installed",
    "is_newer",
    "is_same",
    "parse",
]

# Runs in another interpreter, which may not have this package.
_LIST_VERSIONS = """
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
class Installed:
    """
    An installed engine.

    Attributes:
        distribution: The name of its package.
        version: The version of its package.
    """

    distribution: str
    version: str


def find(engine: EngineName, python: str) -> Installed | None:
    """
    Find out which version of an engine an interpreter has.

    Args:
        engine: The engine.
        python: The path of the interpreter.

    Returns:
        The installed package; None if there is none.

    Raises:
        MissingDependencyError: `python` cannot be run.
    """
    names = ENGINES[engine].distributions
    if python == sys.executable:
        versions = {name: version for name in names if (version := installed(name)) is not None}
    else:
        versions = _of_interpreter(python, names)
    return next((Installed(name, versions[name]) for name in names if name in versions), None)


def installed(package: str) -> str | None:
    """Return the version of a package in this environment; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def default_interpreter(engine: EngineName) -> str:
    """Return the path of the interpreter that is used for an engine if the user names none."""
    if engine == "vllm":
        # It is no error if there is none: the command can be printed for another machine.
        with suppress(MissingDependencyError):
            return find_engine_python(None)
    return sys.executable


def parse(version: str) -> tuple[int, int, int]:
    """
    Return the first three numbers of a version.

    Args:
        version: Such as "0.10.1", "v0.9.2rc1" or "0.5.5.post3".

    Raises:
        InputError: It is not a version.
    """
    major, minor, patch = re.findall(r"[0-9]+", normalize_version(version))[:3]
    return int(major), int(minor), int(patch)


def is_same(one: str, other: str) -> bool:
    """Return whether two versions are the same, except for a local part such as "+cpu"."""
    first, second = (normalize_version(v).partition("+")[0] for v in (one, other))
    return first == second


def check(engine: EngineName, version: str) -> tuple[int, int, int]:
    """
    Return the numbers of a version that can serve a Qwen3 reranker.

    Args:
        engine: The engine.
        version: Its version.

    Raises:
        UnsupportedVersionError: It is too old; the message says why.
        InputError: It is not a version.
    """
    numbers = parse(version)
    known = ENGINES[engine]
    if numbers < known.oldest:
        oldest = ".".join(map(str, known.oldest))
        raise UnsupportedVersionError(
            f"{engine} {version} is too old for Qwen3-Reranker ({known.oldest_because}): use "
            f"{oldest} or later"
        )
    return numbers


def is_newer(engine: EngineName, version: str) -> bool:
    """Return whether the minor version is newer than the newest that this package knows."""
    return parse(version)[:2] > parse(ENGINES[engine].newest)[:2]


def _of_interpreter(python: str, names: Sequence[str]) -> dict[str, str]:
    command = [python, "-c", _LIST_VERSIONS, *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        versions: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise MissingDependencyError(
            f"{python} is not a Python interpreter that runs: {error}"
        ) from error
    return versions
