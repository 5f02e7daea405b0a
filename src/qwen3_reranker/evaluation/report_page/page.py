"""Put the sections of a report together to a page."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from qwen3_reranker.evaluation.report_page.changes import changes_section
from qwen3_reranker.evaluation.report_page.curves import curves_section
from qwen3_reranker.evaluation.report_page.settings import settings_section
from qwen3_reranker.evaluation.report_page.systems import systems_section
from qwen3_reranker.evaluation.text import heading
from qwen3_reranker.markup import Html, tag
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["report_page"]

_TOPICS = {
    "rerank": "Rerank?",
    "headroom": "Highest possible",
    "depth": "Candidates to rerank",
    "top_n": "Documents for the LLM",
    "min_score": "Threshold",
    "instruction": "Instruction",
}


def report_page(report: ReportData) -> str:
    """Return a report as an HTML document, the same for equal reports."""
    title = f"Does reranking help on {report.dataset.name}?"
    style = files(__package__).joinpath("style.css").read_text("utf-8")
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(style)),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", f"{heading(report.dataset)}.", class_="lead")),
        tag(
            "main",
            _recommendation(report),
            systems_section(report),
            changes_section(report),
            curves_section(report),
            settings_section(report),
        ),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _recommendation(report: ReportData) -> Html:
    cards = [
        tag(
            "li",
            tag("h3", _TOPICS[advice.topic]),
            tag("p", _value(advice.topic, advice.value), class_="value"),
            tag("p", advice.text),
            class_=f"card {advice.topic}",
        )
        for advice in report.recommendation
    ]
    return tag("section", tag("h2", "What to do"), tag("ul", *cards, class_="cards"))


def _value(topic: str, value: object) -> str:
    """Return a recommended value in a word."""
    if value is None:
        return "Unclear" if topic in ("rerank", "instruction") else "None"
    if topic == "instruction":
        return "The default one" if value == DEFAULT_INSTRUCTION else "Your own"
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if topic == "headroom":
        return f"{value:.3f}"
    return f"min_score {value:g}" if topic == "min_score" else str(value)
