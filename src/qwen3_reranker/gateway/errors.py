"""
How a failure is reported: the HTTP status, and the body in the language of the path.

Clients of OpenAI and vLLM read `error.message`, those of Cohere `message`, those of Jina and
Xinference `detail`, and those of TEI a string under `error`. Several of them share a path, so its
errors carry all of the first three.
"""

from __future__ import annotations

import logging
from typing import Any

from qwen3_reranker.errors import (
    ClosedError,
    InputError,
    RerankerError,
    ServerError,
    ServerUnavailableError,
    UnsupportedFeatureError,
)

__all__ = ["GatewayError", "cohere", "gateway_error", "openai", "shared", "tei"]

_logger = logging.getLogger(__name__)

# Words that clients compare, by the HTTP status.
_TYPES = {
    400: "invalid_request_error",
    401: "invalid_api_key",
    404: "not_found_error",
    405: "method_not_allowed",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    502: "upstream_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# TEI's words for the same; all else is "Backend".
_TEI_TYPES = {
    400: "Validation",
    401: "Unauthorized",
    404: "Validation",
    413: "Validation",
    422: "Validation",
    503: "Overloaded",
}


class GatewayError(Exception):
    """
    A request that is answered with an error.

    Args:
        status: The HTTP status.
        message: What is wrong, and what to do.
        retry_after: After how many seconds a client should try again. None says nothing.
        headers: Further HTTP headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    @property
    def message(self) -> str:
        """What is wrong, and what to do."""
        return str(self)

    @property
    def type(self) -> str:
        """A word for the kind of error."""
        return _TYPES.get(self.status, "server_error")


def gateway_error(error: Exception) -> GatewayError:
    """
    Return how an error of the package is reported. Any other error is logged and called internal.

    Args:
        error: What was raised while a request was processed.
    """
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, InputError | UnsupportedFeatureError):
        return GatewayError(422, str(error))
    if isinstance(error, ServerUnavailableError | ClosedError):
        return GatewayError(503, str(error), retry_after=1)
    if isinstance(error, ServerError):
        return GatewayError(502, str(error))
    if isinstance(error, RerankerError):
        return GatewayError(500, str(error))
    _logger.error("a request failed", exc_info=error)
    return GatewayError(500, f"internal error ({type(error).__name__}), see the gateway's log")


def openai(error: GatewayError) -> dict[str, Any]:
    """Return the body that clients of OpenAI and vLLM read."""
    details = {"message": error.message, "type": error.type, "param": None, "code": error.status}
    return {"error": details}


def cohere(error: GatewayError) -> dict[str, Any]:
    """Return the body that clients of Cohere read."""
    return {"message": error.message}


def shared(error: GatewayError) -> dict[str, Any]:
    """Return a body for the paths that clients of OpenAI, Cohere, Jina and Xinference share."""
    return openai(error) | cohere(error) | {"detail": error.message}


def tei(error: GatewayError) -> dict[str, Any]:
    """Return the body that clients of Text Embeddings Inference read."""
    return {"error": error.message, "error_type": _TEI_TYPES.get(error.status, "Backend")}
