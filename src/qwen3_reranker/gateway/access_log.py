"""One line per request, for people or for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from qwen3_reranker.gateway.line_writer import LineWriter
from qwen3_reranker.gateway.records import Observer, RequestRecord

__all__ = ["AccessLogFormat", "access_log"]

AccessLogFormat = Literal["json", "text", "none"]
"""How requests are logged."""

# Clients choose the path.
_LONGEST_PATH = 200


@contextmanager
def access_log(chosen: AccessLogFormat, stream: TextIO) -> Iterator[list[Observer]]:
    """
    Yield what writes a line for each request, if anything does.

    A line has neither texts of queries or documents nor keys. Requests that are not for scores,
    such as for metrics, are logged only if they failed, and those for readiness not at all.

    Lines are written in a thread; see `LineWriter`. The end of the block waits for them.

    Args:
        chosen: "json" for a JSON object per line, "text" for people, "none" for no log.
        stream: Where the lines are written.
    """
    if chosen == "none":
        yield []
        return
    line_for = _json if chosen == "json" else _text
    with LineWriter(stream) as lines:

        def observe(record: RequestRecord) -> None:
            if record.api is None and (record.status < 400 or record.path == "/ready"):
                return
            lines.write(line_for(record))

        yield [observe]


def _json(record: RequestRecord) -> str:
    """Return a line of JSON in ASCII. Seconds have microseconds; what does not apply is null."""
    usage = record.usage
    values: dict[str, Any] = {
        "time": _time(),
        "request_id": record.request_id,
        "trace_id": record.trace_id,
        "method": record.method,
        "path": _path(record),
        "status": record.status,
        "api": record.api,
        "model": record.alias,
        "documents": record.documents,
        "tokens": usage.tokens,
        "truncated": usage.truncated,
        "cached": usage.cached,
        "seconds": _rounded(record.seconds),
        "queue_seconds": _rounded(record.queue_seconds),
        "scoring_seconds": _rounded(record.scoring_seconds),
    }
    return json.dumps(values, separators=(",", ":")) + "\n"


def _text(record: RequestRecord) -> str:
    """Return a line such as `... POST /v1/rerank 200 in 0.125 s, 50 documents, 8,120 tokens`."""
    line = f"{_time()} {record.request_id} {record.method} {_path(record)} {record.status}"
    line += f" in {record.seconds:.3f} s"
    if record.documents:
        line += f", {record.documents} documents, {record.usage.tokens:,} tokens"
    if record.alias is not None:
        line += f", {record.alias}"
    return line + "\n"


def _path(record: RequestRecord) -> str:
    """Return the path without characters that would break a line or mislead its reader."""
    return "".join(c if c.isprintable() else "?" for c in record.path[:_LONGEST_PATH])


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
