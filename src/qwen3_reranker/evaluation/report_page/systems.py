"""The systems side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_reranker.evaluation.recommendation import SIGNIFICANT, p_text
from qwen3_reranker.evaluation.report_page.charts import chart
from qwen3_reranker.evaluation.report_page.tables import wide_table
from qwen3_reranker.evaluation.results import SystemResult
from qwen3_reranker.evaluation.systems import instruction_names
from qwen3_reranker.markup import Html, join, tag

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["systems_section"]


def systems_section(report: ReportData) -> Html:
    """Return the metrics of all systems, as a plot of the first one and a table of all."""
    metric = report.metrics[0]
    explanation = (
        f"The mean {metric} of each system with its 95 % interval. A dot right of the dotted line "
        "is better than the retriever's order. Overlapping intervals do not mean that there is no "
        "difference: the p-values in the table compare query by query."
    )
    picture = tag(
        "figure",
        tag("figcaption", explanation),
        chart(report, "systems", report.best, f"{metric} of each system", explanation),
    )
    rows = [
        [system.name, *(_cell(system, name) for name in report.metrics)]
        for system in report.systems
    ]
    caption = (
        "Means with 95 % intervals; below them the difference from the retriever's order with its "
        f"p-value, in bold if it is more than chance (p < {SIGNIFICANT:g})."
    )
    content = [picture, wide_table(["System", *report.metrics], rows, caption)]
    instructions = instruction_names(system.instruction for system in report.systems[1:])
    if len(instructions) > 1:
        named = [
            join(tag("dt", name), tag("dd", text)) for text, name in instructions.items() if text
        ]
        content.append(tag("dl", *named))
    return tag("section", tag("h2", "Systems side by side"), *content)


def _cell(system: SystemResult, metric: str) -> Html:
    low, high = system.intervals[metric]
    lines = [
        tag("span", f"{system.metrics[metric]:.3f}", class_="mean"),
        tag("span", f"{low:.3f} to {high:.3f}", class_="small"),
    ]
    if metric in system.differences:
        p = system.p_values[metric]
        parts = f"{system.differences[metric]:+.3f}", f"({p_text(p)})"
        whole = [tag("span", part, class_="whole") for part in parts]
        name = "strong" if p < SIGNIFICANT else "span"
        lines.append(tag(name, whole[0], " ", whole[1], class_="small"))
    return join(*lines)
