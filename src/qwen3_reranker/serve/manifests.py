"""Write a launch down to keep it: as a script for a shell, or as a compose file."""

from __future__ import annotations

import ipaddress
import math
import shlex
from pathlib import Path

from qwen3_reranker.errors import InputError
from qwen3_reranker.serve.command import Launch, portable_program
from qwen3_reranker.serve.options import Option
from qwen3_reranker.serve.versions import EngineName
from qwen3_reranker.serve.yaml_text import Value, dump

__all__ = ["compose", "shell", "usage"]

# What a shell script puts in their places; no argument can hold a NUL.
_TEMPLATE_SLOT, _MODEL_SLOT = "\0template", "\0model"
_END = "END_OF_TEMPLATE"
# The device's memory in the example of a share.
_EXAMPLE = 80 * 2**30
_TEMPLATE = "/etc/qwen3-reranker/template.jinja"
_HUB_CACHE = "/root/.cache/huggingface"
_IMAGES: dict[EngineName, str] = {
    "vllm": "vllm/vllm-openai",
    "vllm-ascend": "quay.io/ascend/vllm-ascend",
    "sglang": "lmsysorg/sglang",
}
_CPU_IMAGE = "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo"
# vLLM-Ascend's documentation, "Setup environment using container".
_ASCEND_DEVICES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
_ASCEND_FILES = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/etc/ascend_install.info",
)
_PROBE = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{}/health', timeout=8)"


def shell(launch: Launch) -> str:
    """
    Return a script for a POSIX shell that starts the server, on this machine or another.

    The score template is in the script. The engine is the one that the shell finds (`vllm` or
    `python3`). A model's folder can be given as the script's first argument. A key is read from
    its environment variable, and without it the script stops. The notes are comments.
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
        secret = f'"${{{launch.key.variable}:?{_ask(launch.key.variable)}}}"'
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
        program=portable_program(launch.engine, cpu=not launch.devices),
        model=_MODEL_SLOT if launch.is_folder else None,
        template=_TEMPLATE_SLOT,
    )
    return [line(group) for group in groups]


def compose(launch: Launch, *, image: str | None = None) -> str:
    """
    Return a compose file with one service, the server.

    The score template is in the file (Docker Compose 2.23.1 and later), so that the file works on
    another machine. A model's folder is mounted at its own path. The hub's cache of the user who
    starts the server is mounted too, so that nothing is downloaded twice.

    Args:
        launch: What is served.
        image: The container's image; None takes the engine's own for its version.

    Raises:
        InputError: No image is known for this engine and device, or the host is not an IP address.
    """
    host = "::" if ":" in launch.host else "0.0.0.0"  # noqa: S104, the port decides who reaches it
    # Unlike vllm-cpu's, the image for CPUs has a console script that works.
    entrypoint, flag = portable_program(launch.engine, cpu=False)
    groups = launch.command(program=((), flag), host=host, template=_TEMPLATE)
    command = [_literal(word) for group in groups for word in group]
    environment: dict[str, Value] = {
        name: _literal(value) for name, value in launch.environment.items()
    }
    # Passed on if it is set.
    environment["HF_TOKEN"] = None
    if launch.key is not None:
        secret = f"${{{launch.key.variable}:?{_ask(launch.key.variable)}}}"
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
            "test": ["CMD", "python3", "-c", _PROBE.format(launch.port)],
            "interval": "15s",
            "timeout": "10s",
            "retries": 4,
            # Loading an 8B model from the hub takes its time.
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
    if launch.engine == "vllm-ascend":
        service["devices"] = [
            *(f"/dev/davinci{n}" for n in range(launch.devices)),
            *_ASCEND_DEVICES,
        ]
        notes += [
            "devices: change /dev/davinci0 and on to those that are free (npu-smi info)",
            (
                "image: this is the one for Atlas A2; its tag ends in -a3 for Atlas A3, in -310p "
                "for Atlas 300I, and in -openeuler for that system"
            ),
        ]
    elif launch.devices:
        device: Value = {"driver": "nvidia", "count": launch.devices, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    lines = [_title(launch), *(f"- {note}" for note in notes)]
    return "".join(f"# {_line(line)}\n" for line in lines) + dump(content)


def usage(launch: Launch) -> tuple[str, str]:
    """Return the lines that use the server from LangChain, and from LlamaIndex."""
    key = launch.key and f', api_key=os.environ["{launch.key.variable}"]'
    made = f"import Qwen3Rerank; reranker = Qwen3Rerank(base_url={launch.url!r}{key or ''})"
    begin = "import os; " if key else ""
    return (
        f"{begin}from qwen3_reranker.langchain {made}",
        f"{begin}from qwen3_reranker.llama_index {made}",
    )


def _notes(launch: Launch) -> list[str]:
    """Return the notes of a launch, and one on memory, which `serve` finds out by itself."""
    notes = list(launch.notes)
    if launch.devices and launch.engine != "sglang":
        notes.append(_memory_note(launch))
    return notes


def _memory_note(launch: Launch) -> str:
    device = "NPU" if launch.engine == "vllm-ascend" else "GPU"
    note = (
        f"--gpu-memory-utilization: not set, so vLLM takes nearly all of the {device}'s memory; to "
        "leave room for other programs, add --gpu-memory-utilization X"
    )
    if launch.memory is None:
        return f"{note} with the share that it may take, such as 0.5"
    share = math.ceil(launch.memory.share(_EXAMPLE) * 100) / 100
    return (
        f"{note} with X = {launch.memory.total / 2**30:.1f} GiB / your {device}'s memory "
        f"({share} on {_EXAMPLE // 2**30} GiB)"
    )


def _title(launch: Launch) -> str:
    return f"{launch.model} ({launch.kind}) on {launch.engine} {launch.version}"


def _line(text: str) -> str:
    """Return `text` as one line, so that no name can end a comment."""
    return "".join(c if c.isprintable() else " " for c in text)


def _ask(variable: str) -> str:
    return f"set {variable} to the key that clients must send"


def _literal(text: str) -> str:
    """Return `text` so that compose puts no variables into it."""
    return text.replace("$", "$$")


def _address(host: str) -> str:
    """Return the IP address to publish a port on; compose takes no names."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InputError(
            f"host={host!r} is not an IP address, and compose publishes ports on nothing else: give "
            "an address, such as 127.0.0.1 (this machine alone) or 0.0.0.0 (all networks)"
        ) from None
    return host


def _image(launch: Launch) -> str:
    name = _IMAGES[launch.engine]
    if launch.devices == 0:
        if launch.engine == "sglang":
            raise InputError("no image of SGLang for CPUs is known: give image=")
        name = _CPU_IMAGE
    return f"{name}:v{launch.version.removeprefix('v').partition('+')[0]}"


def _volumes(launch: Launch) -> list[Value]:
    volumes: list[Value] = []
    if launch.is_folder:
        folder = Path(launch.model)
        if folder.parent.name == "snapshots":
            # In the hub's cache, where a snapshot's files are links to what lies beside it.
            folder = folder.parents[1]
        path = _literal(str(folder))
        volumes.append({"type": "bind", "source": path, "target": path, "read_only": True})
    else:
        cache = "${HF_HOME:-${HOME}/.cache/huggingface}"
        volumes.append({"type": "bind", "source": cache, "target": _HUB_CACHE})
    if launch.engine == "vllm-ascend":
        volumes += [
            {"type": "bind", "source": file, "target": file, "read_only": True}
            for file in _ASCEND_FILES
        ]
    return volumes
