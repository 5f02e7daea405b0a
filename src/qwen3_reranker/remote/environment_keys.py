"""Find API keys in environment variables, and decide which server may receive them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_reranker.dialects import Dialect
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address

__all__ = ["EnvironmentKey", "environment_key", "withheld_key"]


@dataclass(frozen=True)
class EnvironmentKey:
    """
    An API key from the environment.

    Attributes:
        variable: The name of the environment variable.
        key: The key.
    """

    variable: str
    key: Secret


def environment_key(address: Address, dialects: Sequence[Dialect]) -> EnvironmentKey | None:
    """
    Return the API key that the environment holds for one of the dialects.

    No server receives a key that is not meant for it: the key of a hosted service is sent to that
    service's hosts only, over https only. Any other key is sent only to this machine and to private
    networks.

    Args:
        address: The server.
        dialects: The dialects that the server may speak.

    Returns:
        The key of the first dialect that has one, or None.
    """
    for dialect in dialects:
        allowed = address.secure and address.hosts(dialect) if dialect.hosts else address.private
        if allowed and (variable := _variable(dialect)):
            return EnvironmentKey(variable, Secret(os.environ[variable]))
    return None


def withheld_key(address: Address, dialects: Sequence[Dialect]) -> str | None:
    """Return a message about a key in the environment that is not sent to this server, or None."""
    for dialect in dialects:
        variable = _variable(dialect)
        if variable is None:
            continue
        if address.hosts(dialect) and not address.secure:
            return f"{variable} is set, but it is sent over https only: give an https URL"
        if not dialect.hosts and not address.private:
            return (
                f"{variable} is set, but it is sent to this machine and private networks only: "
                f"give api_key= to send it to {address.host}"
            )
    return None


def _variable(dialect: Dialect) -> str | None:
    """Return the first environment variable of a dialect that holds a key."""
    return next((name for name in dialect.key_variables if os.environ.get(name)), None)
