"""Which dialects a server may speak, by its address and what it says of itself, and whose key."""

from __future__ import annotations

import os
from collections.abc import Sequence

from qwen3_reranker.scorers.address import Address
from qwen3_reranker.scorers.detection.server_info import ServerInfo
from qwen3_reranker.scorers.dialects import Dialect, dialects

__all__ = ["candidates", "environment_key", "hosted", "of_kind"]


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


def environment_key(address: Address, among: Sequence[Dialect]) -> str | None:
    """
    Return the key that the environment holds for one of the dialects.

    A hosted service's key is for its own hosts alone, so that no other server gets it.
    """
    fitting = [d for d in among if not d.hosts or address.hosts(d)]
    names = [name for dialect in fitting for name in dialect.key_variables]
    return next((key for name in names if (key := os.environ.get(name))), None)
