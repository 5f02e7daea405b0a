"""
OpenTelemetry spans, with the attributes that OpenInference defines for rerankers.

A program that traces has imported opentelemetry and configured a tracer provider. In any other
program nothing here imports opentelemetry, and a call costs a look-up.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from qwen3_reranker.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from qwen3_reranker.ranking import Hit, Ranking
    from qwen3_reranker.usage import Usage

__all__ = [
    "TEXTS_VARIABLE",
    "RerankSpan",
    "start_span",
    "trace_headers",
    "traced",
]

TEXTS_VARIABLE = "QWEN3_RERANKER_TRACE_TEXTS"
"""The environment variable that lets spans contain the texts of queries and documents."""

Framework = Literal["langchain", "llama_index"]
_INSTRUMENTORS = {"langchain": "LangChainInstrumentor", "llama_index": "LlamaIndexInstrumentor"}

# The variables of OpenTelemetry's specification for the number of attributes of a span, and their
# default. The SDK drops the oldest attributes of a span that has more.
_LIMITS = ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")
_DEFAULT_LIMIT = 128
# How many of them are left for attributes that do not describe a document, such as those that the
# program's span processors add.
_RESERVED = 32

# The usage that the span shows in other attributes, or by its own status and duration.
_SHOWN_ELSEWHERE = frozenset({"queries", "failures", "documents", "seconds"})


@dataclass(frozen=True, slots=True)
class Call:
    """
    What a span says about a query before it has been answered.

    Attributes:
        query: The query.
        documents: The texts that are scored.
        model: Returns the model's name. A server's detection may find it only during the call.
        top_n: The maximum number of documents to keep. None keeps all.
        id_of: Returns the identifier of the document at a position. A document without one is
            identified by its position.
    """

    query: str
    documents: Sequence[str]
    model: Callable[[], str]
    top_n: int | None = None
    id_of: Callable[[int], str | None] | None = None

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that do not describe a document."""
        attributes: dict[str, Any] = {
            "openinference.span.kind": "RERANKER",
            "reranker.model_name": self.model(),
            "qwen3_reranker.input_count": len(self.documents),
        }
        if self.top_n is not None:
            attributes["reranker.top_k"] = self.top_n
        if _shows_texts("INPUTS"):
            attributes["reranker.query"] = self.query
        return attributes

    def inputs(self) -> Iterator[dict[str, Any]]:
        """Yield the attributes of each input document, unless only its position is known."""
        texts = _shows_texts("INPUTS")
        if texts or self.id_of is not None:
            for index, text in enumerate(self.documents):
                yield {"id": self._id(index)} | ({"content": text} if texts else {})

    def outputs(self, hits: Sequence[Hit]) -> Iterator[dict[str, Any]]:
        """Yield the attributes of each document that was kept."""
        texts = _shows_texts("OUTPUTS")
        for hit in hits:
            document: dict[str, Any] = {"id": self._id(hit.index)}
            if not math.isnan(hit.score):
                document["score"] = hit.score
            if texts:
                document["content"] = hit.text
            yield document

    def _id(self, index: int) -> str:
        return (self.id_of(index) if self.id_of else None) or str(index)


class RerankSpan:
    """
    The span of one query. It does nothing in a program that does not trace.

    Args:
        span: The OpenTelemetry span. None does nothing.
        call: What the span describes. None if an instrumentor describes the query and ends the
            span.
    """

    def __init__(self, span: Span | None = None, call: Call | None = None) -> None:
        self._span = span
        self._call = call
        self._end_time: int | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the span the current one, on this thread and for the work that it starts."""
        if self._span is None:
            yield
            return
        from opentelemetry.trace import use_span

        with use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def record(self, hits: Ranking) -> Ranking:
        """
        Describe the documents that were kept, and the cost of the query.

        Args:
            hits: The hits, best first.

        Returns:
            The same hits.
        """
        if self._span is None or not self._span.is_recording():
            return hits
        self._span.set_attributes(_usage(hits.usage))
        if hits and hits[0].error:
            self._span.add_event("qwen3_reranker.keep_order", {"error": hits[0].error})
        if self._call is None:
            return hits
        room = _attribute_limit() - _RESERVED
        outputs = _numbered("reranker.output_documents", self._call.outputs(hits), room)
        room -= len(outputs)
        inputs = _numbered("reranker.input_documents", self._call.inputs(), room)
        # The most important come last, because an SDK with a lower limit drops the oldest ones.
        self._span.set_attributes(inputs | dict(reversed(outputs.items())))
        self._span.set_attribute("qwen3_reranker.output_count", len(hits))
        return hits

    def stop(self, _: object = None) -> None:
        """Let the span end now, though `end()` is called later. For a future's callback."""
        if self._span is not None:
            self._end_time = time.time_ns()

    def cancel(self) -> None:
        """End the span of a query whose result nobody awaits any more."""
        if self._call is not None and self._span is not None:
            self._span.add_event("canceled")
        self.end()

    def fail(self, error: Exception) -> None:
        """Record why the query was not answered."""
        if self._call is None or self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))

    def end(self) -> None:
        """End the span. Ending it twice is allowed."""
        span, self._span = self._span, None
        if span is not None and self._call is not None:
            span.set_attributes(self._call.attributes())  # the model's name may be known only now
            span.end(self._end_time)

    @contextmanager
    def ending(self) -> Iterator[RerankSpan]:
        """Make the span the current one in a block, record the block's error, and end the span."""
        try:
            with self.active():
                yield self
        except Exception as error:
            self.fail(error)
            raise
        except BaseException:  # asyncio.CancelledError, KeyboardInterrupt
            self.cancel()
            raise
        finally:
            self.end()


_NONE = RerankSpan()
# The span that an adapter has started for the reranker's next call.
_adapters_span: ContextVar[RerankSpan | None] = ContextVar("qwen3_reranker_span", default=None)


def start_span(name: str, call: Call) -> RerankSpan:
    """
    Start a span for a query, as a child of the current one.

    If an adapter has started the span already, return that one. Later calls start their own.

    Args:
        name: The name of the span.
        call: The query.
    """
    if not _is_traced():
        return _NONE
    if (span := _adapters_span.get()) is not None:
        _adapters_span.set(None)
        return span
    return _start(name, call, None)


@contextmanager
def traced(framework: Framework, call: Call) -> Iterator[None]:
    """
    Start the span of the reranker's next call, for an adapter that knows more about it.

    OpenInference's instrumentors trace the frameworks, too. That of LangChain does not know that a
    run is a reranker's, and does not make its span the current one, so the span becomes a child
    of it. That of LlamaIndex describes a reranker completely, so there is no second span.

    Args:
        framework: The framework of the adapter.
        call: The query.
    """
    if not _is_traced():
        yield
        return
    frameworks_span = _instrumentors_span(framework)
    if frameworks_span is not None and framework == "llama_index":
        span = RerankSpan(frameworks_span)
    else:
        span = _start("qwen3_reranker.rerank", call, frameworks_span)
    token = _adapters_span.set(span)
    try:
        with span.ending():
            yield
    finally:
        _adapters_span.reset(token)


def trace_headers() -> dict[str, str]:
    """
    Return the headers that let a server continue the current trace, such as `traceparent`.

    The program's propagators write them, except for its baggage: that is for the program's own
    services, and can hold what a server of somebody else must not see.
    """
    if not _is_traced():
        return {}
    from opentelemetry import trace

    if not trace.get_current_span().get_span_context().is_valid:
        return {}
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    headers.pop("baggage", None)
    return headers


def _is_traced() -> bool:
    """Return whether the program may trace, and has not asked libraries to keep out of it."""
    if "opentelemetry.trace" not in sys.modules:
        return False
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value

    return not get_value(_SUPPRESS_INSTRUMENTATION_KEY)


def _start(name: str, call: Call, parent: Span | None) -> RerankSpan:
    from opentelemetry import trace

    tracer = trace.get_tracer("qwen3_reranker", __version__)
    context = None if parent is None else trace.set_span_in_context(parent)
    span = tracer.start_span(name, context, attributes=call.attributes())
    # Without a provider it would hide nothing but its own parent.
    return RerankSpan(span, call) if span.get_span_context().is_valid else RerankSpan()


def _instrumentors_span(framework: Framework) -> Span | None:
    """Return the current span of OpenInference's instrumentor, if the framework is traced by it."""
    module = sys.modules.get(f"openinference.instrumentation.{framework}")
    if module is None:
        return None
    # Neither exists in early versions.
    current = getattr(module, "get_current_span", None)
    instrumentor = getattr(module, _INSTRUMENTORS[framework], None)
    if current is None or instrumentor is None:
        return None
    instrumented = getattr(instrumentor(), "is_instrumented_by_opentelemetry", False)
    return current() if instrumented else None


def _shows_texts(kind: Literal["INPUTS", "OUTPUTS"]) -> bool:
    """Return whether spans contain texts: if asked for, and OpenInference does not hide them."""
    hidden = os.environ.get(f"OPENINFERENCE_HIDE_{kind}", "").lower() == "true"
    return bool(os.environ.get(TEXTS_VARIABLE)) and not hidden


def _usage(usage: Usage) -> dict[str, Any]:
    """Return the attributes of what a query cost. Those that are 0 are left out."""
    numbers = {name: getattr(usage, name) for name in usage.__dataclass_fields__}
    return {
        f"qwen3_reranker.usage.{name}": value
        for name, value in numbers.items()
        if value and name not in _SHOWN_ELSEWHERE and isinstance(value, (int, float))
    }


def _attribute_limit() -> int:
    """Return how many attributes a span can have."""
    values = (os.environ.get(name, "").strip() for name in _LIMITS)
    return next((int(value) for value in values if value.isdecimal()), _DEFAULT_LIMIT)


def _numbered(prefix: str, documents: Iterator[Mapping[str, Any]], room: int) -> dict[str, Any]:
    """Return the attributes of as many documents as there is room for."""
    attributes: dict[str, Any] = {}
    for index, document in enumerate(documents):
        if len(attributes) + len(document) > room:
            break
        for key, value in document.items():
            attributes[f"{prefix}.{index}.document.{key}"] = value
    return attributes
