"""What the files that start a server on another machine have in common."""

from __future__ import annotations

import math
import re

from qwen3_reranker.errors import InputError
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.engines import ENGINES

__all__ = [
    "DEFAULT_NAME",
    "HUB_CACHE",
    "TEMPLATE",
    "check_name",
    "comment",
    "engine_image",
    "escape_dollars",
    "header",
    "health_check",
    "missing_key",
    "notes",
]

TEMPLATE = "/etc/qwen3-reranker/template.jinja"
"""The path of the score template in an engine's container."""

HUB_CACHE = "/root/.cache/huggingface"
"""The path of the Hub cache in an engine's container."""

DEFAULT_NAME = "qwen3-reranker"
"""The name of what a file starts, unless the user gives another."""

# The device memory in the example of a memory share.
_EXAMPLE_MEMORY = 80 * 2**30
_HEALTH_CHECK = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{}{}', timeout=8)"
# The names that a Service of Kubernetes may have, which are also names of compose projects.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def header(launch: Launch, more: list[str]) -> list[str]:
    """
    Return the comments at the top of a file: what it starts, and the notes.

    Args:
        launch: The server.
        more: Notes about this kind of file.
    """
    title = f"{launch.model} ({launch.kind}) on {launch.engine} {launch.version}"
    return [comment(title), *(comment(f"- {note}") for note in (*notes(launch), *more))]


def check_name(name: str) -> None:
    """
    Check the name of what a file starts.

    Args:
        name: The name that the user gave.

    Raises:
        InputError: It cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"name={name!r:.80}: give 1 to 63 lower-case letters, digits and hyphens, the first "
            "one a letter, the last one no hyphen"
        )


def comment(text: str) -> str:
    """Return `text` as a comment of one line, so that no name can end it."""
    return "# " + "".join(c if c.isprintable() else " " for c in text)


def notes(launch: Launch) -> list[str]:
    """Return the notes of a launch, with one on memory; `serve` sets the memory by itself."""
    found = list(launch.notes)
    if launch.devices and ENGINES[launch.engine].memory_option:
        found.append(_memory_note(launch))
    return found


def health_check(port: int, path: str = "/health") -> list[str]:
    """
    Return a command that succeeds in a container if its server is healthy.

    Args:
        port: The port that the server listens on.
        path: The path to request.
    """
    return ["python3", "-c", _HEALTH_CHECK.format(port, path)]


def missing_key(variable: str) -> str:
    """Return the message of a script or compose file whose key is not set."""
    return f"set {variable} to the key that clients must send"


def escape_dollars(text: str) -> str:
    """Escape `text`, so that neither compose nor Kubernetes replaces variables in it."""
    return text.replace("$", "$$")


def engine_image(launch: Launch) -> str:
    """
    Return the engine's own container image for a launch's version.

    Args:
        launch: The server.

    Raises:
        InputError: No image is known for this engine and device.
    """
    engine = ENGINES[launch.engine]
    name = engine.image if launch.devices else engine.cpu_image
    if not name:
        raise InputError(f"no image of {engine.title} for CPUs is known: give image=")
    return f"{name}:v{launch.version.partition('+')[0]}"


def _memory_note(launch: Launch) -> str:
    device, option = ENGINES[launch.engine].accelerator, ENGINES[launch.engine].memory_option
    note = (
        f"{option}: not set, so vLLM takes nearly all of the {device}'s memory; to leave room for "
        f"other programs, add {option} X"
    )
    if launch.memory is None:
        return f"{note} with the share that it may take, such as 0.5"
    share = math.ceil(launch.memory.share(_EXAMPLE_MEMORY) * 100) / 100
    return (
        f"{note} with X = {launch.memory.total / 2**30:.1f} GiB / your {device}'s memory "
        f"({share} on {_EXAMPLE_MEMORY // 2**30} GiB)"
    )
