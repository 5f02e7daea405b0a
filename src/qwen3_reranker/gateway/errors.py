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
    AnswerError,
    ClosedError,
    InputError,
    RerankerError,
    ServerError,
    ServerUnavailableError,
    UnsupportedFeatureError,
)
from qwen3_reranker.remote.responses import TooLargeError

__all__ = [
    "GatewayError",
    "OrderKeptError",
    "cohere",
    "gateway_error",
    "openai",
    "shared",
    "tei",
]

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


class OrderKeptError(RerankerError):
    """Scoring failed, and the reranker kept the order of the documents instead of raising."""


# The first kind of error that fits decides.
_FAILURES: tuple[tuple[tuple[type[Exception], ...], int, str], ...] = (
    (
        (UnsupportedFeatureError,),
        422,
        (
            "the servers behind the gateway cannot serve this request in full: leave its "
            "instruction out, or shorten its documents"
        ),
    ),
    (
        (TooLargeError,),
        413,
        (
            "a document is too long for the servers behind the gateway: shorten it, or divide it "
            "into several documents"
        ),
    ),
    ((ClosedError,), 503, "the gateway is shutting down: try again later"),
    (
        (ServerUnavailableError, OrderKeptError),
        503,
        "documents cannot be scored at the moment: try again later",
    ),
    (
        (ServerError, AnswerError),
        502,
        "a server behind the gateway refused the request or gave no scores",
    ),
    ((RerankerError,), 500, "scoring failed"),
)


def gateway_error(error: Exception, request_id: str) -> GatewayError:
    """
    Return how an error is reported to the client.

    The client is told what is wrong with its request. Of any other failure it is told only the
    kind, with the ID of the request, because the message may name servers and is written for those
    who run the gateway. The message is logged, if it is a server's own at DEBUG, because a server
    may repeat the texts that it was sent.

    Args:
        error: What was raised while the request was processed.
        request_id: The ID of the request, which the log has, too.
    """
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, InputError):
        return GatewayError(422, str(error))
    _log(error, request_id)
    status, message = _described(error)
    message += f" (request ID {request_id}; see the gateway's log)"
    return GatewayError(status, message, retry_after=1 if status == 503 else None)


def _described(error: Exception) -> tuple[int, str]:
    """Return the HTTP status of a failure, and its kind in words."""
    found = ((status, words) for kinds, status, words in _FAILURES if isinstance(error, kinds))
    return next(found, (500, f"internal error ({type(error).__name__})"))


def _log(error: Exception, request_id: str) -> None:
    name = type(error).__name__
    if isinstance(error, ServerError | AnswerError | OrderKeptError):
        status = getattr(error, "status", None)
        cause = name if status is None else f"{name}, status {status}"
        _logger.warning("request %s failed: %s", request_id, cause)
        _logger.debug("the reason why request %s failed: %s", request_id, error)
    elif isinstance(error, RerankerError):
        _logger.warning("request %s failed: %s: %s", request_id, name, error)
    else:
        _logger.error("request %s failed", request_id, exc_info=error)


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
