"""What a gateway tells Prometheus."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from qwen3_reranker.gateway.backend import Backend
from qwen3_reranker.gateway.limits import Admission
from qwen3_reranker.gateway.readiness import Readiness
from qwen3_reranker.gateway.records import RequestRecord
from qwen3_reranker.version import __version__

__all__ = ["Metrics"]

_PREFIX = "qwen3_reranker"
# Seconds: from a few short documents on a GPU to the longest request that is answered by default.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# What the rerankers of a backend say of each server, by its URL, or of each engine, by its device.
_Stats = dict[str, list[Any]]


class Metrics:
    """
    Count the requests of a gateway, and describe its state.

    Each instance has a registry of its own, so several gateways can run in a process. No label has
    a value that a client can choose: a path or a model that is not known has none.

    Args:
        backend: What scores, whose servers and engines are described.
        admission: The requests that are being processed.
        readiness: Whether requests can be scored.
    """

    def __init__(self, backend: Backend, admission: Admission, readiness: Readiness) -> None:
        self._readiness = readiness
        self._registry = registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"{_PREFIX}_{name}", what, labels, registry=registry)

        def seconds(name: str, what: str, *labels: str) -> Histogram:
            return Histogram(
                f"{_PREFIX}_{name}_seconds", what, labels, buckets=_BUCKETS, registry=registry
            )

        def gauge(name: str, what: str, value: Callable[[], float]) -> None:
            Gauge(f"{_PREFIX}_{name}", what, registry=registry).set_function(value)

        self._requests = counter("requests", "Requests answered", "api", "model", "status")
        self._documents = counter("documents", "Documents in requests that were scored", "model")
        self._tokens = counter("tokens", "Prompt tokens that were scored", "model")
        self._truncated = counter(
            "truncated_documents", "Documents whose end was cut off to fit the prompt", "model"
        )
        self._cached = counter("cached_scores", "Scores that came from the cache", "model")
        self._seconds = seconds(
            "request_duration", "Seconds from receiving a request to its answer", "api", "model"
        )
        self._queue = seconds("queue_duration", "Seconds that a request waited to be scored")
        self._scoring = seconds("scoring_duration", "Seconds that a request was scored", "model")
        gauge("requests_in_progress", "Requests that are being scored", lambda: admission.active)
        gauge("requests_queued", "Requests that wait to be scored", lambda: admission.waiting)
        gauge("ready", "Whether requests can be scored", lambda: readiness.ready)
        about = {"version": __version__, "python": platform.python_version()}
        build = Gauge(
            f"{_PREFIX}_build_info", "The version of the gateway", tuple(about), registry=registry
        )
        build.labels(**about).set(1)
        registry.register(_Scorers(backend))
        ProcessCollector(registry=registry)

    def observe(self, record: RequestRecord) -> None:
        """Count a request that has been answered."""
        api, model = record.api or "other", record.alias or ""
        self._requests.labels(api, model, str(record.status)).inc()
        if record.api is None:
            return
        self._seconds.labels(api, model).observe(record.seconds)
        if record.queue_seconds is not None:
            self._queue.observe(record.queue_seconds)
        if record.scoring_seconds is not None:
            self._scoring.labels(model).observe(record.scoring_seconds)
        usage = record.usage
        for metric, count in (
            (self._documents, usage.documents),
            (self._tokens, usage.tokens),
            (self._truncated, usage.truncated),
            (self._cached, usage.cached),
        ):
            if count:
                metric.labels(model).inc(count)

    async def answer(self, request: Request) -> Response:
        """
        Return the metrics, in the format that Prometheus prefers.

        If it is not known whether requests can be scored, the next answer will say so.
        """
        self._readiness.check()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), media_type=content_type)


class _Scorers(Collector):
    """Describe the servers and engines of a backend, as its rerankers know them."""

    def __init__(self, backend: Backend) -> None:
        self._rerankers = backend.rerankers

    def collect(self) -> Iterator[Metric]:
        stats = [reranker.stats() for reranker in self._rerankers]
        endpoints = _by_name([one.endpoints for one in stats])
        engines = _by_name([one.engines for one in stats])
        up = GaugeMetricFamily(
            f"{_PREFIX}_upstream_up",
            "Whether a server is used: 0 while others are preferred, because it has failed",
            labels=["url"],
        )
        for url, parts in endpoints.items():
            up.add_metric([url], float(not any(part.backoff_seconds for part in parts)))
        yield up
        yield from _counters("upstream", "a server", "url", endpoints)
        yield _counter("upstream", "url", endpoints, "failures", "Attempts at a server that failed")
        yield from _counters("engine", "an engine", "device", engines)
        # Every reranker counts all of them, whoever used the engine.
        for name, what in (
            ("failures", "How often an engine ended unexpectedly or did not start"),
            ("restarts", "How often an engine was started again"),
        ):
            yield _counter("engine", "device", engines, name, what, combine=max)


def _counters(kind: str, who: str, label: str, stats: _Stats) -> Iterator[Metric]:
    """Return counters for what each server or engine did."""
    for name, what in (
        ("requests", f"Requests that {who} answered with scores"),
        ("documents", f"Texts that {who} scored"),
        ("tokens", f"Prompt tokens that {who} scored"),
        ("seconds", f"Seconds of all requests to {who}"),
    ):
        yield _counter(kind, label, stats, name, what)


def _counter(
    kind: str,
    label: str,
    stats: _Stats,
    name: str,
    what: str,
    *,
    combine: Callable[[Iterable[float]], float] = sum,
) -> Metric:
    """
    Return a counter for each server or engine.

    Args:
        kind: "upstream" or "engine".
        label: The label that tells them apart.
        stats: What each reranker says of each of them.
        name: The attribute to read, which names the metric, too.
        what: What is counted.
        combine: Makes one number of what the rerankers say.
    """
    family = CounterMetricFamily(f"{_PREFIX}_{kind}_{name}", what, labels=[label])
    for value, parts in stats.items():
        family.add_metric([value], combine(getattr(part, name) for part in parts))
    return family


def _by_name(mappings: Iterable[Mapping[str, Any]]) -> _Stats:
    """Return the values of several mappings by their keys."""
    found: _Stats = {}
    for mapping in mappings:
        for name, value in mapping.items():
            found.setdefault(name, []).append(value)
    return found
