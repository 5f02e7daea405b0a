"""A launch as something to keep: a command for a shell, or a compose file."""

from __future__ import annotations

import shlex
from pathlib import Path

from qwen3_reranker.deploy.launch import Launch
from qwen3_reranker.deploy.versions import EngineName
from qwen3_reranker.deploy.yaml_text import Value, dump
from qwen3_reranker.errors import InputError

__all__ = ["compose", "shell", "usage"]

_TEMPLATE = "/etc/qwen3-reranker/template.jinja"
_HUB_CACHE = "/root/.cache/huggingface"
_ENTRYPOINTS: dict[EngineName, list[str]] = {
    "vllm": ["vllm", "serve"],
    "vllm-ascend": ["vllm", "serve"],
    "sglang": ["python3", "-m", "sglang.launch_server"],
}
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
    Return a command to paste into a POSIX shell, with the notes as comments.

    A key is read from its environment variable by the shell, which stops if that is not set.
    """
    lines = [f"# {_line(_title(launch))}", *(f"# - {_line(note)}" for note in launch.notes)]
    lines += [f"{name}={shlex.quote(value)} \\" for name, value in launch.environment.items()]
    groups = [" ".join(map(shlex.quote, group)) for group in launch.command()]
    if launch.key is not None:
        secret = f'"${{{launch.key.variable}:?{_ask(launch.key.variable)}}}"'
        if launch.key.option:
            groups.append(f"{launch.key.target}={secret}")
        else:
            lines.append(f"{launch.key.target}={secret} \\")
    lines.append(" \\\n  ".join(groups))
    return "\n".join(lines) + "\n"


def compose(launch: Launch, *, image: str | None = None) -> str:
    """
    Return a compose file with one service, the server.

    The template is in the file itself (Docker Compose 2.23.1 and later), so that it can be moved
    to another machine. A model's folder is mounted at its own path, and the hub's cache of the
    user who starts it, so that nothing is loaded twice.

    Args:
        launch: What is served.
        image: The container's image; None takes the engine's own of that version.

    Raises:
        InputError: There is no image that is known for this.
    """
    host = "::" if ":" in launch.host else "0.0.0.0"  # noqa: S104, the port decides who reaches it
    groups = launch.command(host, _TEMPLATE)[1:]
    words = [word for group in groups for word in group]
    model = [launch.model] if launch.engine != "sglang" else ["--model-path", launch.model]
    command = [_literal(word) for word in [*model, *words]]
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
        "entrypoint": list[Value](_ENTRYPOINTS[launch.engine]),
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
    notes = list(launch.notes)
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
    return "127.0.0.1" if host == "localhost" else host


def _image(launch: Launch) -> str:
    name = _IMAGES[launch.engine]
    if launch.devices == 0:
        if launch.engine == "sglang":
            raise InputError("no image of SGLang for CPUs is known: give image=")
        name = _CPU_IMAGE
    return f"{name}:v{launch.version.removeprefix('v').partition('+')[0]}"


def _volumes(launch: Launch) -> list[Value]:
    volumes: list[Value] = []
    if launch.model.startswith("/"):
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
