"""Check the arguments of `launch`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from qwen3_reranker.errors import InputError
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.options import Device, DType, Kind, Template

__all__ = ["check_arguments", "check_extra"]

_NO_TLS = "put a proxy with TLS in front of the server"
# The engine's arguments that would contradict what a launch says of its server, and what to do
# instead. `launch` writes most of them itself.
_CONTRADICTIONS = {
    "--host": "give host=",
    "--port": "give port=",
    "--uds": "give host= and port=",
    "--ssl-keyfile": _NO_TLS,
    "--ssl-certfile": _NO_TLS,
    "--api-key": "give api_key_variable=",
    "--served-model-name": "give served_name=",
    "--max-model-len": "give max_length=",
    "--context-length": "give max_length=",
    "--dtype": "give dtype=",
    "--device": "give device=",
    **dict.fromkeys(
        ("-tp", "--tp", "--tp-size", "--tensor-parallel-size"), "give tensor_parallel="
    ),
    **dict.fromkeys(("-dp", "--dp", "--dp-size", "--data-parallel-size"), "give data_parallel="),
    # It would replace the one that makes an original checkpoint a reranker.
    "--hf-overrides": "change config.json in the model's folder",
}


def check_arguments(
    *,
    engine: str,
    device: str | None,
    kind: str | None,
    template: str,
    host: str,
    port: int,
    dtype: str,
    tensor_parallel: int,
    data_parallel: int,
    key_variable: str | None,
) -> None:
    """
    Check the arguments of `launch` that can be checked one by one.

    Raises:
        InputError: One is not valid.
    """
    known = {str(name): value for name, value in ENGINES.items()}.get(engine)
    if known is None:
        raise InputError(f"engine={engine!r}: give one of {', '.join(ENGINES)}")
    _check_choice("device", device, get_args(Device), optional=True)
    if device == "cpu" and not known.runs_on_cpu:
        raise InputError(
            f"device='cpu': {known.title} runs only on {known.accelerator}s: give 'gpu' or None"
        )
    _check_choice("kind", kind, get_args(Kind), optional=True)
    _check_choice("template", template, get_args(Template))
    if not re.fullmatch(r"[A-Za-z0-9.:%_-]+", host) or host.startswith("-"):
        raise InputError(
            f"host={host!r} is not an address to listen on: give one such as 127.0.0.1 or 0.0.0.0"
        )
    if not 1 <= port <= 65535:
        raise InputError(f"port={port}: give a number from 1 to 65535")
    _check_choice("dtype", dtype, get_args(DType))
    for name, number in {
        "tensor_parallel": tensor_parallel,
        "data_parallel": data_parallel,
    }.items():
        if number < 1:
            raise InputError(f"{name}={number}: give 1 or more")
    if key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_variable):
        # The value is not repeated, because it may be the key itself.
        raise InputError("api_key_variable is not the name of an environment variable")


def check_extra(extra: Sequence[str]) -> None:
    """
    Check the user's own arguments for the engine.

    Args:
        extra: The words of the arguments.

    Raises:
        InputError: It is one text instead of a list of words, or an argument contradicts what the
            launch says of its server.
    """
    if isinstance(extra, str):
        raise InputError(f"extra={extra!r:.80} is one text: give a list, such as {extra.split()}")
    for word in extra:
        # vLLM also accepts underscores, and --name.key for one key of a JSON value.
        name = re.split(r"[=.]", word, maxsplit=1)[0].replace("_", "-")
        if name in _CONTRADICTIONS:
            # The value is not repeated, because it may be a key.
            raise InputError(
                "the engine's own arguments (extra, or after -- on the command line) hold "
                f"{word.partition('=')[0]}, which would contradict the rest of the command: "
                f"{_CONTRADICTIONS[name]} instead"
            )


def _check_choice(
    name: str, value: str | None, choices: Sequence[str], *, optional: bool = False
) -> None:
    if value in choices or (optional and value is None):
        return
    *others, last = [*map(repr, choices), *(["None"] if optional else [])]
    raise InputError(f"{name}={value!r}: give {', '.join(others)} or {last}")
