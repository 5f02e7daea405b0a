"""Send requests to one server: build its URLs, and add its API key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from qwen3_reranker.dialects import Dialect
from qwen3_reranker.errors import InputError, ServerError
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.environment_keys import environment_key, withheld_key
from qwen3_reranker.remote.responses import JsonResponse
from qwen3_reranker.remote.transport import Transport, check_header

__all__ = ["ServerClient"]

# The share of the timeout that a GET may take. GETs read metadata, and gateways may never answer
# them; the rest of the time is for scoring.
_GET_SHARE = 0.25

# Status codes of a request without a key. LiteLLM 1.106 answers 500.
_KEYLESS = frozenset({401, 403, 500})


class ServerClient:
    """
    Send GET and POST requests to one server, with its API key.

    Args:
        address: The address of the server.
        transport: The connections.
        api_key: The API key, sent as a bearer token. None loads one from the environment once the
            server is known; see `adopt_key()`.
        timeout: The time limit of a call, in seconds. A GET request may take a quarter of it.
        bounded: Whether a POST request is limited to `timeout`. If not, the caller limits it.

    Raises:
        InputError: `api_key` is not a str that can be sent in a header, or the headers of
            `transport` already contain an Authorization header.
    """

    def __init__(
        self,
        address: Address,
        transport: Transport,
        api_key: Secret | None,
        timeout: float,
        *,
        bounded: bool = False,
    ) -> None:
        self.address = address
        self._transport = transport
        self._authorization: Secret | None = None
        self._get_seconds = _GET_SHARE * timeout
        self._post_seconds = timeout if bounded else None
        self._withheld: str | None = None
        if api_key is not None:
            if not isinstance(api_key.reveal(), str):
                kind = type(api_key.reveal()).__name__
                raise InputError(f"api_key= is a {kind}: give a str")
            if transport.sends_authorization:
                raise InputError(
                    "api_key= is given, and headers= has an Authorization too: give one of them"
                )
            self._set_key(api_key, "api_key=")

    def adopt_key(self, dialects: Sequence[Dialect]) -> bool:
        """
        Load an API key from the environment; return True if one was found.

        Nothing is loaded if the user gave a key or an Authorization header.

        Args:
            dialects: The dialects that the server may speak.
        """
        if self._authorization is not None or self._transport.has_credentials:
            return False
        key = environment_key(self.address, dialects)
        if key is None:
            self._withheld = self._withheld or withheld_key(self.address, dialects)
            return False
        self._set_key(key.key, key.variable)
        return True

    async def get(self, path: str) -> Any:
        """
        Return the parsed JSON response to a GET request.

        Args:
            path: The path below the base URL, such as "/v1/models".

        Raises:
            ServerError: As for `Transport.request()`.
        """
        with self._name_withheld_key():
            response = await self._transport.request(
                "GET",
                self.address.at(path),
                authorization=self._authorization,
                seconds=self._get_seconds,
            )
        return response.value

    async def post(self, path: str, body: Mapping[str, Any]) -> JsonResponse:
        """
        Send a POST request and return its JSON response.

        Args:
            path: The path below the base URL, such as "/v1/rerank".
            body: The JSON body. Entries whose value is None are left out.

        Raises:
            ServerError: As for `Transport.request()`.
        """
        with self._name_withheld_key():
            return await self._transport.request(
                "POST",
                self.address.at(path),
                body,
                authorization=self._authorization,
                seconds=self._post_seconds,
            )

    @contextmanager
    def _name_withheld_key(self) -> Iterator[None]:
        """Add the message about a key that was not sent to an error that may be due to that."""
        try:
            yield
        except ServerError as error:
            if error.status in _KEYLESS and self._withheld:
                error.args = (f"{error}. {self._withheld}", *error.args[1:])
            raise

    def _set_key(self, key: Secret, source: str) -> None:
        authorization = Secret(f"Bearer {key.reveal()}")
        check_header("Authorization", authorization, source)
        self._authorization = authorization
