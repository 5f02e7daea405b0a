"""Generate the Dockerfile of the gateway's image, and the command of its container."""

from __future__ import annotations

from qwen3_reranker.addresses import is_loopback
from qwen3_reranker.serve.client_code import client_max_length
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.version import __version__

__all__ = [
    "GATEWAY_CACHE",
    "GATEWAY_ENVIRONMENT",
    "GATEWAY_IMAGE",
    "GATEWAY_KEY",
    "GRACE_SECONDS",
    "compose_key",
    "dockerfile",
    "gateway_arguments",
    "gateway_notes",
]

GATEWAY_IMAGE = f"qwen3-reranker-gateway:{__version__}"
"""The name of the gateway's image, unless the user gives another."""

GATEWAY_KEY = "QWEN3_RERANKER_API_KEY"
"""The environment variable that the gateway reads its API key from."""

GATEWAY_CACHE = "/huggingface"
"""The path in the gateway's container at which the engine's Hub cache is mounted."""

# The engine has downloaded the tokenizer before the gateway starts.
GATEWAY_ENVIRONMENT = {"HF_HOME": GATEWAY_CACHE, "HF_HUB_OFFLINE": "1"}
"""The environment variables of the gateway's container, without its key."""

GRACE_SECONDS = 120
"""How long the gateway has at its end to answer the requests that it has accepted."""

_DOCKERFILE = f"""\
FROM python:3.13-slim
RUN pip install --no-cache-dir "qwen3-reranker[gateway]=={__version__}"
RUN useradd --uid 10001 --create-home gateway
USER 10001
ENTRYPOINT ["qwen3-reranker", "gateway"]
"""


def dockerfile() -> str:
    """
    Return the Dockerfile of an image of the gateway.

    The image has this package and no engine: the engine has a container of its own. It needs no
    GPU, and does not run as root. The container's arguments are those of `qwen3-reranker gateway`.
    """
    return _DOCKERFILE


def gateway_arguments(launch: Launch, url: str, *, key: bool) -> list[str]:
    """
    Return the arguments of the gateway's container.

    Args:
        launch: The server, whose port is the gateway's.
        url: The engine's URL.
        key: Whether clients must send an API key.
    """
    arguments = ["--base-url", url, "--host", "0.0.0.0", "--port", str(launch.port)]  # noqa: S104
    if (length := client_max_length(launch)) is not None:
        arguments += ["--max-length", str(length)]
    return arguments if key else [*arguments, "--allow-no-key"]


def compose_key(launch: Launch) -> str | None:
    """
    Return the environment variable with the key that a gateway in a compose file requires.

    Args:
        launch: The server, whose host and key are the gateway's.

    Returns:
        The variable that the user chose. Without one, `GATEWAY_KEY` if other machines can reach the
        gateway, and None, for no key, if only this one can.
    """
    if launch.key is not None:
        return launch.key.variable
    return None if is_loopback(launch.host) else GATEWAY_KEY


def gateway_notes(launch: Launch) -> list[str]:
    """Return what users of the gateway in a compose file should know about its key."""
    if launch.key is not None or compose_key(launch) is None:
        return []
    return [
        (
            f"the API key: the gateway requires the one in {GATEWAY_KEY}, because other machines "
            f"can reach it. If the network is trusted, replace {GATEWAY_KEY} in its environment by "
            "--allow-no-key in its command"
        )
    ]
