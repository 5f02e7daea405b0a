"""Where people find a page that a command serves."""

from __future__ import annotations

import socket

from qwen3_reranker.addresses import is_wildcard, url_of
from qwen3_reranker.cli.console import say

__all__ = ["announce"]


def announce(what: str, host: str, port: int, path: str = "") -> None:
    """
    Say at which URLs a browser finds a page.

    Args:
        what: What is there, such as "the playground".
        host: The host that the server listens on. For all networks, the URLs have the names of this
            machine instead, because browsers cannot open 0.0.0.0.
        port: The port.
        path: The path of the page.
    """
    if is_wildcard(host):
        say(f"{what} is at {url_of('localhost', port)}{path} on this machine")
        say(f"from other machines it is at {url_of(socket.gethostname(), port)}{path}")
    else:
        say(f"{what} is at {url_of(host, port)}{path}")
