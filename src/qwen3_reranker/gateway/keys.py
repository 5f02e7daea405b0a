"""API keys: where they come from, and which requests need one."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from qwen3_reranker.errors import InputError
from qwen3_reranker.gateway.errors import GatewayError
from qwen3_reranker.gateway.paths import error_body, route_path
from qwen3_reranker.redaction import Secret

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["VARIABLE", "RequireKey", "read_keys"]

VARIABLE = "QWEN3_RERANKER_API_KEY"
"""The environment variable that holds the key which clients must send."""

# What orchestrators and Prometheus ask, and what says nothing that the documentation does not say.
# A client recognizes a gateway by /version, and sends the key of its environment only to one.
_OPEN = frozenset(
    {
        "/docs",
        "/favicon.ico",
        "/health",
        "/metrics",
        "/openapi.json",
        "/ready",
        "/v1/cluster/auth",
        "/version",
    }
)


def read_keys(file: str | Path | None = None) -> tuple[Secret, ...]:
    """
    Return the keys of the environment variable `QWEN3_RERANKER_API_KEY` and of a file.

    Args:
        file: A file with one key per line. Blank lines and lines that begin with # are skipped.

    Raises:
        InputError: The file cannot be read, or has no key.
    """
    keys = [key] if (key := os.environ.get(VARIABLE, "").strip()) else []
    if file is not None:
        try:
            lines = Path(file).read_text("utf-8-sig").splitlines()
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}: give a file that can be read") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is not UTF-8 text: give a file with one key per line") from (
                error
            )
        found = [line.strip() for line in lines]
        found = [line for line in found if line and not line.startswith("#")]
        if not found:
            raise InputError(f"{file} has no key: write one per line")
        keys += found
    return tuple(Secret(key) for key in dict.fromkeys(keys))


class RequireKey:
    """
    An ASGI middleware that refuses requests without one of the keys.

    A key is accepted as a bearer token, and as the password of HTTP Basic authentication, which a
    browser asks for.

    Args:
        app: The application.
        keys: The keys; none accepts every request.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str | Secret]) -> None:
        self._app = app
        texts = [key.reveal() if isinstance(key, Secret) else key for key in keys]
        self._keys = Secret([text.encode() for text in texts])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request, or refuse it before its body is read."""
        if scope["type"] not in ("http", "websocket") or self._allows(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = route_path(scope)
        error = GatewayError(401, "the API key is missing or wrong: send Authorization: Bearer KEY")
        await send(
            {
                "type": "http.response.start",
                "status": error.status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"www-authenticate", b"Bearer"),
                    (b"www-authenticate", b'Basic realm="qwen3-reranker"'),
                ],
            }
        )
        body = orjson.dumps(error_body(path)(error))
        await send({"type": "http.response.body", "body": body})

    def _allows(self, scope: Scope) -> bool:
        keys = self._keys.reveal()
        if not keys or route_path(scope) in _OPEN:
            return True
        sent = _sent_key(dict(scope["headers"]).get(b"authorization", b""))
        # All are compared, so that the time does not depend on which one is right.
        return sum(hmac.compare_digest(sent, key) for key in keys) > 0


def _sent_key(header: bytes) -> bytes:
    """Return the key in an Authorization header; empty if there is none."""
    scheme, _, value = header.strip().partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer":
        return value
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
