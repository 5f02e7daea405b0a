"""The addresses that programs listen on, and those at which they are reached."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from qwen3_reranker.errors import InputError

__all__ = ["is_loopback", "is_wildcard", "listen", "url_of"]

_BACKLOG = 2048


def is_loopback(host: str) -> bool:
    """
    Return whether only this machine can reach a program that listens on a host.

    A name other than localhost counts as one that others can reach.

    Args:
        host: The name or address of an interface of this machine.
    """
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def is_wildcard(host: str) -> bool:
    """
    Return whether a host stands for all networks, as 0.0.0.0 and :: do.

    Args:
        host: The name or address to listen on.
    """
    address = _address(host)
    return address is not None and address.is_unspecified


def url_of(host: str, port: int) -> str:
    """
    Return the HTTP URL of a host and a port, without a path.

    Args:
        host: A name or an address; an IPv6 address gets brackets.
        port: The port.
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """
    Return a socket that listens.

    Args:
        host: The name or address of an interface of this machine.
        port: The port; 0 takes any that is free.

    Raises:
        InputError: The port is in use or not allowed, or the host is not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port={port}: give a number from 1 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"host={host!r}: it is not known here ({error}): give an address of this machine, such "
            "as 127.0.0.1, or 0.0.0.0 for all networks"
        ) from error
    # Clients that know a name such as localhost usually mean its IPv4 address.
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere, several programs could listen on the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(_why(host, port, error)) from error
    return listener


def _why(host: str, port: int, error: OSError) -> str:
    """Return why an address cannot be listened on, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"port={port} is used by another program: give another port, or end that program"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"host={host!r} is no address of this machine: give 127.0.0.1, or 0.0.0.0 for all "
            "networks"
        )
    if error.errno == errno.EACCES:
        return f"port={port}: only an administrator may use it: give one above 1023"
    return f"cannot listen on {host}, port={port}: {error.strerror}"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
