"""Select the dialects that a server may speak, by its address and its metadata."""

from __future__ import annotations

from qwen3_reranker.dialects import Dialect, custom_dialects, dialects, find
from qwen3_reranker.dialects.base import check_dialect
from qwen3_reranker.errors import InputError
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection.server_info import ServerInfo

__all__ = ["candidates", "hosted", "of_kind", "resolve_dialect"]


def resolve_dialect(dialect: str | Dialect) -> Dialect | None:
    """
    Return the dialect that an argument stands for; None if it is to be detected.

    Raises:
        InputError: It is neither a usable dialect nor the name of one.
    """
    if isinstance(dialect, str):
        return None if dialect == "auto" else find(dialect)
    if isinstance(dialect, Dialect):
        check_dialect(dialect)
        return dialect
    raise InputError(f"dialect={dialect!r}: give a name, or a Dialect instance")


def hosted(address: Address) -> list[Dialect]:
    """Return the dialects of the hosted service that a host belongs to; none for other hosts."""
    own = [d for d in dialects() if address.hosts(d)]
    return [d for d in own if address.serves(d)] or own


def of_kind(server_info: ServerInfo) -> list[Dialect]:
    """Return the dialects of a kind of server, without those that any server may speak."""
    return [d for d in dialects() if d.kind is not None and d.kind == server_info.kind]


def candidates(address: Address, server_info: ServerInfo) -> list[Dialect]:
    """
    Return the dialects to try, in order.

    Args:
        address: The server. If the address contains the path of an endpoint, only dialects with
            that path are returned.
        server_info: The server's metadata.

    Returns:
        The dialects of the hosted service, if it is one. Otherwise those of the server's kind
        first, then those that any server may speak, and finally the others that the user
        registered.
    """
    if service := hosted(address):
        return service
    common = [d for d in dialects() if d.kind is None or (d.common and server_info.kind is None)]
    return [
        d
        for d in dict.fromkeys([*of_kind(server_info), *common, *custom_dialects()])
        if address.serves(d)
        and not d.hosts
        # Some servers crash if a model that does not generate is asked to.
        and not (d.generates and server_info.generates is False)
    ]
