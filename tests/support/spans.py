"""The spans that the code under test makes, collected in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import format_span_id, format_trace_id
from opentelemetry.util._once import Once

RERANKER = "RERANKER"


class Spans:
    """
    A tracer provider that keeps the spans that have ended.

    Args:
        sampler: Decides which spans are recorded.
        limits: The SDK's limits. None uses its defaults.
    """

    def __init__(self, sampler: Sampler = ALWAYS_ON, limits: SpanLimits | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler, span_limits=limits, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("program")

    @property
    def all(self) -> list[ReadableSpan]:
        """All spans, in the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    @property
    def rerankers(self) -> list[ReadableSpan]:
        """The spans of rerankers, whoever made them."""
        return [span for span in self.all if kind(span) == RERANKER]

    @property
    def one(self) -> ReadableSpan:
        """The only span of a reranker."""
        [span] = self.rerankers
        return span


@contextmanager
def collected(**settings: Any) -> Iterator[Spans]:
    """Make a collecting provider the one of the program, for the duration of a block."""
    spans = Spans(**settings)
    with unconfigured():
        trace.set_tracer_provider(spans.provider)
        yield spans


@contextmanager
def unconfigured() -> Iterator[None]:
    """Let a block set the program's provider, which the API allows once, and forget it after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", None)
        patch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
        yield


def kind(span: ReadableSpan) -> Any:
    """Return OpenInference's kind of a span."""
    return attributes(span).get("openinference.span.kind")


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> str | None:
    """Return the id of a span's parent."""
    return None if span.parent is None else format_span_id(span.parent.span_id)


def id_of(span: ReadableSpan) -> str:
    return format_span_id(span.context.span_id)


def traceparent(span: ReadableSpan) -> str:
    """Return the beginning of the header that continues a span: version, trace and span."""
    return f"00-{format_trace_id(span.context.trace_id)}-{format_span_id(span.context.span_id)}-"


def documents(span: ReadableSpan, kind: str = "output") -> list[dict[str, Any]]:
    """Return the documents that a span describes, in order."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in attributes(span).items():
        if name.startswith(f"reranker.{kind}_documents."):
            index, _, key = name.split(".", 2)[2].partition(".document.")
            found.setdefault(int(index), {})[key] = value
    assert sorted(found) == list(range(len(found)))
    return [found[index] for index in range(len(found))]
