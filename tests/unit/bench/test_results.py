"""What is computed from the requests, written down, compared and drawn."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.bench import BenchResult, Failure, Sample, compare
from qwen3_reranker.bench.results import STATISTICS
from qwen3_reranker.bench.samples import percentile

seconds = st.floats(0, 1e4)
good = st.builds(
    Sample,
    start=seconds,
    latency=seconds,
    documents=st.integers(1, 1000),
    tokens=st.none() | st.integers(1, 10**6),
    retries=st.integers(0, 3),
)
bad = st.builds(
    Sample,
    start=seconds,
    latency=seconds,
    documents=st.integers(1, 1000),
    error=st.sampled_from(["ServerError", "EngineError"]),
)
samples = st.lists(good | bad, max_size=40)
values = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=100)


def result_of(measured: list[Sample], **given: Any) -> BenchResult:
    errors = dict.fromkeys(sample.error for sample in measured if sample.error)
    arguments: dict[str, Any] = {
        "settings": {"concurrency": 4, "rate": None, "documents": 5},
        "environment": {"model": "demo", "backend": "somewhere", "date": "2026-11-26"},
        "messages": {error: f"the first {error}" for error in errors},
        "duration": 2.0,
        "unfinished": 0,
        "max_concurrent_requests": 4,
        "client_cpu_seconds": 0.25,
        "repetitions": 1.0,
    }
    return BenchResult.of(measured, **arguments | given)


MEASURED = [
    Sample(0.0, 0.010, 5, 100),
    Sample(0.0, 0.020, 5, 110, retries=2),
    Sample(0.1, 0.050, 5, error="ServerError"),
    Sample(0.2, 0.030, 5, 90),
    Sample(0.3, 0.700, 5, error="ServerError"),
    Sample(0.4, 0.001, 5, error="EngineError"),
]


@given(values, st.floats(0, 100))
def test_percentiles_are_those_of_numpy(numbers: list[float], percent: float) -> None:
    ours = percentile(sorted(numbers), percent)
    assert ours == pytest.approx(float(np.percentile(numbers, percent)), rel=1e-9, abs=1e-6)


@given(samples)
def test_the_numbers_are_those_of_the_successful_requests(measured: list[Sample]) -> None:
    result = result_of(measured)
    finished = [sample for sample in measured if sample.error is None]
    latencies = [sample.latency * 1000 for sample in finished]
    assert result.successful == len(finished)
    assert result.failed == len(measured) - len(finished)
    assert sum(failure.count for failure in result.errors.values()) == result.failed
    assert result.total_documents == sum(sample.documents for sample in finished)
    assert result.request_throughput == len(finished) / 2
    assert result.document_throughput == result.total_documents / 2
    counts = [sample.tokens for sample in finished]
    known = None if None in counts else sum(count or 0 for count in counts)
    assert result.total_input_tokens == known
    assert result.total_token_throughput == (None if known is None else known / 2)
    if not latencies:
        assert result.mean_e2el_ms is result.median_e2el_ms is result.p99_e2el_ms is None
        return
    expected: list[tuple[float | None, Any]] = [
        (result.mean_e2el_ms, np.mean(latencies)),
        (result.median_e2el_ms, statistics.median(latencies)),
        (result.std_e2el_ms, np.std(latencies)),
        (result.p90_e2el_ms, np.percentile(latencies, 90)),
        (result.p99_e2el_ms, np.percentile(latencies, 99)),
    ]
    for ours, theirs in expected:
        assert ours == pytest.approx(float(theirs), rel=1e-9, abs=1e-6)


def test_a_small_result_by_hand() -> None:
    result = result_of(MEASURED)
    assert (result.successful, result.failed, result.retries) == (3, 3, 2)
    assert result.errors == {
        "ServerError": Failure(2, "the first ServerError"),
        "EngineError": Failure(1, "the first EngineError"),
    }
    assert (result.total_documents, result.total_input_tokens) == (15, 300)
    assert result.mean_e2el_ms == pytest.approx(20)
    assert result.p90_e2el_ms == pytest.approx(28)
    assert result.client_cpu_us_per_document == pytest.approx(0.25e6 / 15)


def test_the_table_has_the_order_of_vllm_bench_serve() -> None:
    result = result_of(MEASURED, unfinished=2, repetitions=1.5)
    assert result.table().splitlines()[:8] == [
        "Successful requests:                       3",
        "Failed requests:                           3",
        "  ServerError:                             2",
        "  EngineError:                             1",
        "Retries in successful requests:            2",
        "Unfinished requests:                       2",
        "Maximum request concurrency:               4",
        "Peak concurrent requests:                  4",
    ]
    labels = [label for label, _ in result.rows()]
    shared = [
        "Successful requests",
        "Failed requests",
        "Maximum request concurrency",
        "Benchmark duration (s)",
        "Total input tokens",
        "Request throughput (req/s)",
        "Total token throughput (tok/s)",
        "Mean E2EL (ms)",
        "Median E2EL (ms)",
        "P99 E2EL (ms)",
    ]
    assert [label for label in labels if label in shared] == shared
    assert dict(result.rows())["Times each request was sent"] == "1.5"
    assert "Request rate configured (RPS)" not in labels
    open_loop = result_of(MEASURED, settings={"concurrency": None, "rate": 7.5})
    assert dict(open_loop.rows())["Request rate configured (RPS)"] == "7.50"


def test_what_is_unknown_is_said() -> None:
    rows = dict(result_of([replace(MEASURED[0], tokens=None)]).rows())
    assert rows["Total input tokens"] == rows["Total token throughput (tok/s)"] == "unknown"
    assert dict(result_of([]).rows())["P99 E2EL (ms)"] == "unknown"


@given(samples)
def test_a_result_survives_json(measured: list[Sample]) -> None:
    result = result_of(measured)
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert BenchResult.from_dict(json.loads(text)) == result


def test_a_result_survives_a_file(tmp_path: Path) -> None:
    result = result_of(MEASURED, environment={"model": "重排 é"})
    result.save(tmp_path / "result.json")
    assert BenchResult.load(tmp_path / "result.json") == result
    written = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert (written["successful"], written["failed"]) == (3, 3)
    assert written["errors"]["ServerError"] == {"count": 2, "message": "the first ServerError"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{oops", "cannot be read: "),
        ("[1]", "not the result of a load test"),
        ('{"successful": 1}', "not the result of a load test"),
        ("[" * 100_000, "cannot be read: maximum recursion depth"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_result(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=reason) as error:
        BenchResult.load(tmp_path / "a.json")
    assert "a.json" in str(error.value)


NUMBERS = [each.name for each in fields(BenchResult) if re.search("int|float", str(each.type))]


@pytest.mark.parametrize("change", [
    *({name: "x"} for name in [*NUMBERS, "settings", "environment", "errors", "samples"]),
    {"duration": 10**400},
    {"environment": {"model": 1}},
    {"errors": {"ServerError": {"count": "x", "message": ""}}},
    {"samples": [{**asdict(MEASURED[0]), "latency": "x"}]},
    {"samples": {}},
])  # fmt: skip
def test_a_file_with_a_value_of_another_type(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(result_of(MEASURED).to_dict() | change))
    with pytest.raises(InputError, match=r"a.json: not the result of a load test"):
        BenchResult.load(path)


@given(st.text(st.characters(), max_size=20))
@example("\ud83d")
def test_a_result_is_saved_whatever_a_server_answers(
    tmp_path_factory: pytest.TempPathFactory, message: str
) -> None:
    path = tmp_path_factory.mktemp("results") / "a.json"
    result = result_of([MEASURED[2]], messages={"ServerError": message})
    result.save(path)
    assert BenchResult.load(path) == result


def test_results_are_compared_by_ratios() -> None:
    a = result_of(MEASURED)
    b = result_of(MEASURED, duration=4.0)
    rows = {row.name: row for row in compare(a, b).rows}
    assert list(rows) == [each.name for each in STATISTICS]
    assert rows["request_throughput"].ratio == 0.5
    assert (rows["duration"].a, rows["duration"].b, rows["duration"].ratio) == ("2.00", "4.00", 2.0)
    assert rows["p99_e2el_ms"].ratio == 1.0
    assert compare(a, b).settings == compare(a, b).environment == {}
    assert compare(a, b).notes() == []


def test_a_ratio_needs_two_numbers() -> None:
    nothing = result_of([])
    rows = {row.name: row for row in compare(nothing, result_of(MEASURED)).rows}
    assert rows["successful"].ratio is rows["mean_e2el_ms"].ratio is None
    back = {row.name: row for row in compare(result_of(MEASURED), nothing).rows}
    assert (back["successful"].ratio, back["mean_e2el_ms"].ratio) == (0.0, None)


def test_a_comparison_says_what_differs() -> None:
    a = result_of(MEASURED)
    b = result_of(
        MEASURED,
        settings={"concurrency": 4, "rate": None, "documents": 6, "tokens": 9},
        environment={"model": "demo", "backend": "elsewhere", "date": "2027-01-01"},
    )
    comparison = compare(a, b)
    assert comparison.settings == {"documents": (5, 6), "tokens": (None, 9)}
    assert comparison.environment == {"backend": ("somewhere", "elsewhere")}
    assert comparison.table().splitlines()[-5:] == [
        "The tests differ, so compare with care:",
        "  documents: 5 -> 6",
        "  tokens: None -> 9",
        "What was measured differs:",
        "  backend: somewhere -> elsewhere",
    ]


def drawn(path: Path) -> ET.Element:
    root = ET.parse(path).getroot()
    assert root.tag.endswith("svg")
    return root


def marks(root: ET.Element, kind: str) -> list[ET.Element]:
    return [element for element in root.iter() if element.get("class") == kind]


@given(measured=samples)
def test_every_result_can_be_drawn(measured: list[Sample], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("plot") / "a.svg"
    result = result_of(measured)
    if not result.successful:
        with pytest.raises(InputError, match="no request was successful"):
            result.plot(path)
        assert not path.exists()
        return
    result.plot(path)
    assert len(marks(drawn(path), "mark")) == 3
    assert "nan" not in path.read_text("utf-8")


def test_a_plot_shows_percentiles_and_failures(tmp_path: Path) -> None:
    result_of(MEASURED).plot(tmp_path / "a.svg")
    text = " ".join(element.text or "" for element in drawn(tmp_path / "a.svg").iter())
    assert "P50 20 ms, P90 28 ms, P99 30 ms" in text
    assert "3 failed" in text
    assert len(marks(drawn(tmp_path / "a.svg"), "failed")) == 3


def test_a_plot_of_many_requests_is_small(tmp_path: Path) -> None:
    many = [Sample(i / 1000, 0.01 + i % 97 / 1000, 5) for i in range(50_000)]
    result_of([*many, *(replace(s, error="E") for s in many)], duration=50.0).plot(
        tmp_path / "a.svg"
    )
    assert (tmp_path / "a.svg").stat().st_size < 60_000


@pytest.mark.parametrize("name", ["a.png", "svg", "a.svg.txt"])
def test_a_plot_is_svg(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}': give a name that ends in \.svg"):
        result_of(MEASURED).plot(tmp_path / name)
    assert not list(tmp_path.iterdir())
