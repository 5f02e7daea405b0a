"""Which dialects a server may speak, by its address and what it says of itself, and whose key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_reranker.dialects import Dialect, dialects
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection.server_info import ServerInfo

__all__ = [
    "EnvironmentKey",
    "candidates",
    "environment_key",
    "hosted",
    "of_kind",
    "withheld_key",
]


def hosted(address: Address) -> list[Dialect]:
    """Return the dialects of the hosted service that the host belongs to, if any."""
    found = [d for d in dialects() if address.hosts(d)]
    return [d for d in found if address.serves(d)] or found


def of_kind(server_info: ServerInfo) -> list[Dialect]:
    """Return the dialects that servers of this kind alone have."""
    return [d for d in dialects() if d.kind is not None and d.kind == server_info.kind]


def candidates(address: Address, server_info: ServerInfo) -> list[Dialect]:
    """Return the dialects to try: those of the kind first, then what any server may speak."""
    common = [d for d in dialects() if d.kind is None or (d.common and server_info.kind is None)]
    return [
        d
        for d in of_kind(server_info) + common
        if address.serves(d)
        and not d.hosts
        # Some servers die of being asked to generate.
        and not (d.generates and server_info.generates is False)
    ]


@dataclass(frozen=True)
class EnvironmentKey:
    """A key of the environment, and the variable that holds it."""

    variable: str
    key: Secret


def environment_key(address: Address, among: Sequence[Dialect]) -> EnvironmentKey | None:
    """
    Return the key that the environment holds for one of the dialects, None where there is none.

    No server gets a key that is not meant for it. A hosted service's key goes to its own hosts
    alone, and over https only. Other keys go to this machine and to private networks alone.
    """
    for dialect in among:
        allowed = address.secure and address.hosts(dialect) if dialect.hosts else address.private
        if allowed and (variable := _variable(dialect)):
            return EnvironmentKey(variable, Secret(os.environ[variable]))
    return None


def withheld_key(address: Address, among: Sequence[Dialect]) -> str | None:
    """Return why a key that the environment holds for one of the dialects is not sent."""
    for dialect in among:
        variable = _variable(dialect)
        if variable is None:
            continue
        if address.hosts(dialect) and not address.secure:
            return f"{variable} is set, but it is sent over https only: give an https URL"
        if not dialect.hosts and not address.private:
            return (
                f"{variable} is set, but it is sent to this machine and private networks only: give "
                f"api_key= to send it to {address.host}"
            )
    return None


def _variable(dialect: Dialect) -> str | None:
    """Return the first environment variable of a dialect that holds a key."""
    return next((name for name in dialect.key_variables if os.environ.get(name)), None)
