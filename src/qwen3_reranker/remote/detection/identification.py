"""Identify a server: load its API key from the environment, and read its metadata."""

from __future__ import annotations

from qwen3_reranker.dialects import Dialect
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection.candidates import hosted, of_kind
from qwen3_reranker.remote.detection.server_info import ServerInfo, read_server_info
from qwen3_reranker.remote.server_client import ServerClient

__all__ = ["identify", "needs_metadata"]


def needs_metadata(address: Address, dialect: Dialect | None) -> bool:
    """
    Return whether a server has to answer requests for its metadata.

    Not if the user chose an endpoint: a gateway may drop all connections except to that.

    Args:
        address: Its address.
        dialect: The dialect, if the user gave one.
    """
    return dialect is None and address.endpoint is None


async def identify(
    client: ServerClient,
    address: Address,
    model: str | None,
    dialect: Dialect | None = None,
    *,
    pages: bool = True,
) -> ServerInfo:
    """
    Read the metadata of a server. For a hosted service, only its API key is loaded.

    The key is loaded before the first request if the dialect is known, and otherwise as soon as the
    kind of server is. As more can be read with it, the metadata is read again then.

    Args:
        client: The client of the server.
        address: Its address.
        model: The model's name on the server. None uses the one that the server lists.
        dialect: The dialect, if the user gave one.
        pages: Whether to read its OpenAPI pages, see `read_server_info()`.

    Raises:
        RetryableError: The server cannot be reached.
    """
    service = hosted(address)
    known = [dialect] if dialect is not None else service
    client.adopt_key(known)
    if service:
        return ServerInfo()
    info = await read_server_info(client.get, model, pages=pages)
    if not known and client.adopt_key(of_kind(info)):
        info = await read_server_info(client.get, model, pages=pages)
    return info
