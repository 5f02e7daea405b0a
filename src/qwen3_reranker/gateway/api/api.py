"""What the modules for the APIs have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from qwen3_reranker.gateway.api.job import Job

__all__ = ["Api"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """
    An API that scores.

    Attributes:
        name: A short name, which metrics and logs show.
        title: Whose API it is.
        body: What a client sends, for validation and for the documentation.
        parse: Returns what a JSON object asks for, or raises `GatewayError`.
        example_request: A body.
        example_answer: An answer to it.
    """

    name: str
    title: str
    body: type[BaseModel]
    parse: Callable[[dict[str, Any]], Job]
    example_request: dict[str, Any]
    example_answer: Any
