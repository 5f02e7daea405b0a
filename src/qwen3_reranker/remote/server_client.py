"""Requests to one server: its URLs, and its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwen3_reranker.dialects import Dialect
from qwen3_reranker.errors import InputError, ServerError
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection.candidates import environment_key, withheld_key
from qwen3_reranker.remote.transport import Read, Transport, check_header

__all__ = ["ServerClient"]

# GETs only read what a server says of itself, and gateways may never answer them. They get this share
# of the time, so that there is some left to score in.
_GET_SHARE = 0.25

# What servers answer to a request without a key; LiteLLM answers 500.
_KEYLESS = frozenset({401, 403, 500})


class ServerClient:
    """
    Sends GET and POST requests to one server, with its key.

    Args:
        address: Where the server is.
        transport: The connections.
        api_key: The key, sent as a bearer token. None takes one of the environment once it is
            known whose it has to be, see `adopt_key`.
        seconds: The most seconds for a request.

    Raises:
        InputError: `api_key` is no str that a header can carry, or the headers of `transport`
            have an Authorization already.
    """

    def __init__(
        self, address: Address, transport: Transport, api_key: Secret | None, seconds: float
    ) -> None:
        self.address = address
        self._transport = transport
        self._authorization: Secret | None = None
        self._seconds = seconds
        self._withheld: str | None = None
        if api_key is not None:
            if not isinstance(api_key.reveal(), str):
                kind = type(api_key.reveal()).__name__
                raise InputError(f"api_key= is a {kind}: give a str")
            if transport.sends_authorization:
                raise InputError(
                    "api_key= is given, and headers= has an Authorization too: give one of them"
                )
            self._take(api_key, "api_key=")

    def adopt_key(self, dialects: Sequence[Dialect]) -> bool:
        """
        Take the environment's key for one of the dialects; return whether there was one.

        None is taken where the user gave a key or an Authorization header.
        """
        given = self._transport.has_credentials
        if given or self._authorization is not None:
            return False
        found = environment_key(self.address, dialects)
        if found is None:
            self._withheld = self._withheld or withheld_key(self.address, dialects)
            return False
        self._take(found.key, found.variable)
        return True

    async def get(self, path: str) -> Any:
        """Return the JSON answer of a path; raises as `Transport.get` does."""
        try:
            return await self._transport.get(
                self.address.at(path),
                authorization=self._authorization,
                seconds=_GET_SHARE * self._seconds,
            )
        except ServerError as error:
            raise self._explained(error) from None

    async def post(self, path: str, body: Mapping[str, Any], read: Read | None = None) -> Any:
        """Return what `read` finds in the JSON answer of a path; raises as `Transport.post` does."""
        try:
            return await self._transport.post(
                self.address.at(path),
                body,
                authorization=self._authorization,
                seconds=self._seconds,
                read=read,
            )
        except ServerError as error:
            raise self._explained(error) from None

    def _take(self, key: Secret, source: str) -> None:
        authorization = Secret(f"Bearer {key.reveal()}")
        check_header("Authorization", authorization, source)
        self._authorization = authorization

    def _explained(self, error: ServerError) -> ServerError:
        """Return an error that also names a key of the environment that was not sent."""
        if error.status in _KEYLESS and self._withheld:
            error.args = (f"{error}. {self._withheld}", *error.args[1:])
        return error
