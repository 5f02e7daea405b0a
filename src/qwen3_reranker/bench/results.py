"""What a load test has measured, in the terms of `vllm bench serve`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from qwen3_reranker.bench.plot import draw
from qwen3_reranker.bench.samples import Sample, percentile
from qwen3_reranker.decoding import decode
from qwen3_reranker.errors import InputError
from qwen3_reranker.output_files import write_atomically
from qwen3_reranker.terminal import escape_json

__all__ = ["STATISTICS", "BenchResult", "Failure", "Statistic"]


@dataclass(frozen=True, slots=True)
class Failure:
    """
    The failures of one type.

    Attributes:
        count: How many requests failed.
        message: The message of the first.
    """

    count: int
    message: str


@dataclass(frozen=True, slots=True)
class Statistic:
    """
    A number of a `BenchResult`, and how it is shown.

    Attributes:
        name: The name of the attribute of `BenchResult` that holds it.
        label: Its label in the table.
        digits: The number of decimal places in the table.
    """

    name: str
    label: str
    digits: int = 2

    def show(self, value: float | None) -> str:
        """Return a value of this statistic as text."""
        return "unknown" if value is None else f"{value:.{self.digits}f}"


STATISTICS = (
    Statistic("successful", "Successful requests", 0),
    Statistic("failed", "Failed requests", 0),
    Statistic("max_concurrent_requests", "Peak concurrent requests", 0),
    Statistic("duration", "Benchmark duration (s)"),
    Statistic("total_documents", "Total documents", 0),
    Statistic("total_input_tokens", "Total input tokens", 0),
    Statistic("request_throughput", "Request throughput (req/s)"),
    Statistic("document_throughput", "Document throughput (docs/s)"),
    Statistic("total_token_throughput", "Total token throughput (tok/s)"),
    Statistic("mean_e2el_ms", "Mean E2EL (ms)"),
    Statistic("median_e2el_ms", "Median E2EL (ms)"),
    Statistic("p90_e2el_ms", "P90 E2EL (ms)"),
    Statistic("p99_e2el_ms", "P99 E2EL (ms)"),
    Statistic("client_cpu_seconds", "Client CPU time (s)"),
    Statistic("client_cpu_us_per_document", "Client CPU per document (µs)", 0),
)
"""The numbers in the table, in the order of `vllm bench serve`; E2EL is the end-to-end latency."""


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """
    What a load test has measured.

    Throughput, totals and latencies are those of the successful requests. Names that `vllm bench
    serve` has too mean the same as there (read in vLLM 0.32), except for
    `max_concurrent_requests`.

    Attributes:
        settings: How the load was made: the arguments of `LoadTest`, by name. The command `bench`
            adds the options of the reranker that it was given, except for secrets.
        environment: What was measured, and where: the model, the backend's description, the
            versions of this package and of Python, the machine, and the date.
        successful: The number of successful requests.
        failed: The number of failed requests.
        unfinished: The number of requests in flight when the test was interrupted.
        errors: The failures by the type of the error.
        retries: The attempts that followed a failed one in the successful requests.
        duration: The seconds from the first request until the last one ended, or until the test
            was interrupted.
        max_concurrent_requests: The maximum number of requests in flight at the same time.
            `vllm bench serve` has no such number for rerankers; for other models, it counts the
            requests that were in flight at any time within the same second.
        total_documents: The number of documents in the requests, including blank and repeated
            ones, which are not scored. Random documents and those drawn from texts are neither.
        total_input_tokens: The number of tokens in the prompts, including the template, as
            `Usage.tokens` counts them. None if some were not counted.
        request_throughput: Requests per second.
        document_throughput: Documents per second.
        total_token_throughput: Tokens per second. None if the tokens are unknown.
        mean_e2el_ms: The mean end-to-end latency of a request, in milliseconds. None, like all
            latencies, if no request was successful.
        median_e2el_ms: The median.
        std_e2el_ms: The standard deviation.
        p90_e2el_ms: The 90th percentile.
        p99_e2el_ms: The 99th percentile.
        client_cpu_seconds: The CPU time of this process. An engine process is not included, but
            the transformers engine is, because it runs in this process.
        repetitions: How many times on average each request was sent. More than 1 means that a
            prefix cache can help, and occurs only if the requests are the user's own.
        samples: All requests that ended, in the order in which they ended.
    """

    settings: dict[str, Any]
    environment: dict[str, str]
    successful: int
    failed: int
    unfinished: int
    errors: dict[str, Failure]
    retries: int
    duration: float
    max_concurrent_requests: int
    total_documents: int
    total_input_tokens: int | None
    request_throughput: float
    document_throughput: float
    total_token_throughput: float | None
    mean_e2el_ms: float | None
    median_e2el_ms: float | None
    std_e2el_ms: float | None
    p90_e2el_ms: float | None
    p99_e2el_ms: float | None
    client_cpu_seconds: float
    repetitions: float
    samples: tuple[Sample, ...] = field(repr=False)

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        *,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        messages: Mapping[str, str],
        duration: float,
        unfinished: int,
        max_concurrent_requests: int,
        client_cpu_seconds: float,
        repetitions: float,
    ) -> Self:
        """
        Compute the result from the requests.

        Args:
            samples: All requests that ended, in the order in which they ended.
            settings: How the load was made, by the names of the arguments of `LoadTest`.
            environment: What was measured, and where.
            messages: The first message of each type of error.
            duration: The seconds from the first request until the last one ended.
            unfinished: The number of requests that were in flight at the end.
            max_concurrent_requests: The maximum number of requests in flight at the same time.
            client_cpu_seconds: The CPU time of this process.
            repetitions: How many times on average each request was sent, 1 or more.
        """
        good = [sample for sample in samples if sample.error is None]
        errors = [sample.error for sample in samples if sample.error is not None]
        counts = [sample.tokens for sample in good if sample.tokens is not None]
        tokens = sum(counts) if len(counts) == len(good) else None
        documents = sum(sample.documents for sample in good)
        latencies = sorted(sample.latency * 1000 for sample in good)
        seconds = duration or float("inf")
        return cls(
            settings=dict(settings),
            environment=dict(environment),
            successful=len(good),
            failed=len(errors),
            unfinished=unfinished,
            errors={
                error: Failure(errors.count(error), message) for error, message in messages.items()
            },
            retries=sum(sample.retries for sample in good),
            duration=duration,
            max_concurrent_requests=max_concurrent_requests,
            total_documents=documents,
            total_input_tokens=tokens,
            request_throughput=len(good) / seconds,
            document_throughput=documents / seconds,
            total_token_throughput=None if tokens is None else tokens / seconds,
            mean_e2el_ms=statistics.fmean(latencies) if latencies else None,
            median_e2el_ms=percentile(latencies, 50),
            std_e2el_ms=statistics.pstdev(latencies) if latencies else None,
            p90_e2el_ms=percentile(latencies, 90),
            p99_e2el_ms=percentile(latencies, 99),
            client_cpu_seconds=client_cpu_seconds,
            repetitions=repetitions,
            samples=tuple(samples),
        )

    @property
    def client_cpu_us_per_document(self) -> float | None:
        """The client's CPU time per document, in microseconds. None without documents."""
        if not self.total_documents:
            return None
        return self.client_cpu_seconds / self.total_documents * 1e6

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the table: a label, and a number as text."""
        shown = {each.name: each.show(getattr(self, each.name)) for each in STATISTICS}
        rows = [(each.label, shown[each.name]) for each in STATISTICS]
        extra = [(f"  {name}", str(failure.count)) for name, failure in self.errors.items()]
        if self.retries:
            extra.append(("Retries in successful requests", str(self.retries)))
        if self.unfinished:
            extra.append(("Unfinished requests", str(self.unfinished)))
        if (concurrency := self.settings.get("concurrency")) is not None:
            extra.append(("Maximum request concurrency", str(concurrency)))
        if (rate := self.settings.get("rate")) is not None:
            extra.append(("Request rate configured (RPS)", f"{rate:.2f}"))
        rows[2:2] = extra  # after the failed requests
        if self.repetitions > 1:
            rows.append(("Times each request was sent", f"{self.repetitions:.1f}"))
        return rows

    def table(self) -> str:
        """Return the table as text."""
        rows = self.rows()
        width = max(len(label) for label, _ in rows) + 2
        return "\n".join(f"{label + ':':<{width}}{value:>12}" for label, value in rows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON can represent, by attribute."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """
        Return the result that `to_dict()` has written.

        Raises:
            InputError: The data is not a result.
        """
        try:
            return decode(cls, data)
        except ValueError as error:
            raise InputError(
                f"not the result of a load test, which `bench --json` writes: {error}"
            ) from None

    def save(self, path: str | Path) -> None:
        """
        Write the result to a JSON file.

        Raises:
            OSError: The file cannot be written. An earlier one is unchanged.
        """
        text = escape_json(json.dumps(self.to_dict(), ensure_ascii=False, indent=1))
        write_atomically(Path(path), f"{text}\n".encode())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """
        Read the result that `save()` or `qwen3-reranker bench --json` has written.

        Raises:
            InputError: The file cannot be read, or is not a result.
        """
        try:
            data = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{path} cannot be read: {reason}") from None
        try:
            return cls.from_dict(data)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def plot(self, path: str | Path) -> None:
        """
        Draw the latencies: their distribution, and their course over time.

        Args:
            path: The SVG file to write.

        Raises:
            InputError: No request was successful, or the name does not end in .svg.
            OSError: The file cannot be written. An earlier one is unchanged.
        """
        if Path(path).suffix != ".svg":
            raise InputError(f"path={str(path)!r}: give a name that ends in .svg")
        write_atomically(Path(path), draw(self.samples, self.duration).encode())
