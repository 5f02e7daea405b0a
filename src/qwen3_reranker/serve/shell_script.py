"""Generate a shell script that starts a server."""

from __future__ import annotations

import shlex

from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.options import Option
from qwen3_reranker.serve.parts import header, missing_key

__all__ = ["shell"]

# Placeholders that the shell script replaces by variables; no argument can hold a NUL.
_TEMPLATE_SLOT, _MODEL_SLOT = "\0template", "\0model"
_END = "END_OF_TEMPLATE"


def shell(launch: Launch) -> str:
    """
    Return a POSIX shell script that starts the server, on this machine or another.

    The script contains the score template. It starts the engine that the shell finds (`vllm` or
    `python3`). If the model is a folder, the script accepts another folder as its first argument.
    It reads a key from its environment variable, and stops if that is not set. Notes are comments.

    Args:
        launch: The server.
    """
    more = ["on another machine, give the path of the model's folder as an argument"]
    lines = ["#!/bin/sh", *header(launch, more if launch.is_folder else []), "set -eu"]
    if launch.is_folder:
        lines.append(f"model=${{1-{shlex.quote(launch.model)}}}")
    for name, value in launch.environment.items():
        lines.append(f'export {name}="${{{name}-{value}}}"')
    command = _command(launch)
    if launch.key is not None:
        secret = f'"${{{launch.key.variable}:?{missing_key(launch.key.variable)}}}"'
        if launch.key.option:
            command.append(f"{launch.key.target}={secret}")
        else:
            lines.append(f"export {launch.key.target}={secret}")
    if launch.template is not None:
        text = launch.template.read_text("utf-8").removesuffix("\n")
        lines += ['template="$(mktemp -d)/template.jinja"', f"cat > \"$template\" <<'{_END}'", text]
        lines.append(_END)
    lines.append("exec " + " \\\n  ".join(command))
    return "\n".join(lines) + "\n"


def _command(launch: Launch) -> list[str]:
    """Return the words of each line of the script's command, quoted."""
    slots = {_TEMPLATE_SLOT: '"$template"', _MODEL_SLOT: '"$model"'}

    def line(group: Option) -> str:
        return " ".join(slots.get(word) or shlex.quote(word) for word in group)

    groups = launch.command(
        program=ENGINES[launch.engine].portable_program(cpu=not launch.devices),
        model=_MODEL_SLOT if launch.is_folder else None,
        template=_TEMPLATE_SLOT,
    )
    return [line(group) for group in groups]
