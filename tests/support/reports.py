"""Reports for the tests of their pages and plots."""

from __future__ import annotations

import json
from typing import Any

from qwen3_reranker.decoding import decode
from qwen3_reranker.evaluation import Dataset, Report, System, evaluate

from support.evaluation import reranker, synthetic

HOSTILE = (
    "</style></title><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
    "&lt;b&gt; ]]> <!-- $\\frac{1}$ $x$ \x1b[31m\x00\u202e \r\n 中文字 " + "W" * 200
)


def full_report() -> Report:
    """Return a report with several depths and instructions, queries that got worse, and tokens."""
    one = reranker()
    systems = [
        System(reranker=one, depth=5),
        System(reranker=one),
        System(reranker=one, instruction="invert"),
    ]
    return evaluate(synthetic(40, 25), systems, token_counter=len)


def single_report() -> Report:
    """Return a report of one system, without tokens, in which a query got worse."""
    inverted = reranker(instruction="invert")
    dataset = Dataset(
        {"q1": "copy a folder"},
        {"a": "copy a folder", "b": "wait"},
        {"q1": {"a": 1}},
        {"q1": ["a", "b"]},
    )
    return evaluate(dataset, inverted)


def empty_report() -> Report:
    """Return a report in which everything that may be missing is."""
    dataset = Dataset({"q": "text"}, {"d": "text"}, {"q": {"d": 1}}, {"q": []})
    return evaluate(dataset, reranker())


def with_text(report: Report, text: str) -> Report:
    """Return a report with a text in place of each one that comes from data or settings."""
    changed = _with_text(report.as_dict(), text)
    del changed["format"]
    return decode(Report, json.loads(json.dumps(changed)))


def _with_text(value: Any, text: str, key: str = "") -> Any:
    if key in ("metrics", "topic"):  # the names of metrics are known, and keys elsewhere
        return value
    if isinstance(value, dict):
        return {name: _with_text(item, text, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_text(item, text, key) for item in value]
    return text if isinstance(value, str) else value
