"""The trace that a call belongs to, and what the engine process is told of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from qwen3_reranker.embedded.engine_args import engine_arguments
from qwen3_reranker.model.checkpoint import Checkpoint

from support.engine_processes import TEXTS, MakeReranker
from support.spans import Spans, traceparent

pytestmark = pytest.mark.slow


def told(path: Path) -> list[dict[str, str]]:
    """Return the headers that the engine was given with each prompt."""
    return [ast.literal_eval(line) for line in path.read_text().splitlines()]


def test_an_engine_that_traces_continues_each_query(
    spans: Spans, make_reranker: MakeReranker, tmp_path: Path
) -> None:
    """The stand-in for vLLM writes the headers to the file that the endpoint names."""
    path = tmp_path / "headers"
    reranker = make_reranker(engine_args={"otlp_traces_endpoint": str(path)})
    reranker.rerank_many([("first", TEXTS), ("second", TEXTS)])
    first, second = spans.all
    headers = [found["traceparent"] for found in told(path)]
    assert sorted(header[:-2] for header in headers) == sorted(
        [traceparent(first)] * len(TEXTS) + [traceparent(second)] * len(TEXTS)
    )


def test_without_a_trace_there_is_nothing_to_continue(
    make_reranker: MakeReranker, tmp_path: Path
) -> None:
    path = tmp_path / "headers"
    make_reranker(engine_args={"otlp_traces_endpoint": str(path)}).rerank("query", TEXTS)
    assert told(path) == [{}] * len(TEXTS)


@pytest.mark.parametrize(("endpoint", "disabled"), [(None, True), ("http://h:4317", False)])
def test_vllm_keeps_the_statistics_that_its_spans_contain(
    endpoint: str | None, disabled: bool
) -> None:
    user = {} if endpoint is None else {"otlp_traces_endpoint": endpoint}
    checkpoint = Checkpoint.load("demo")
    args = engine_arguments(checkpoint, 512, user, device_memory=None, can_compile=False)
    assert args["disable_log_stats"] is disabled
