"""What was evaluated and how, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from qwen3_reranker.evaluation.report_page.tables import ABSENT, wide_table
from qwen3_reranker.evaluation.results import SystemResult
from qwen3_reranker.markup import Html, tag

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["settings_section"]


def settings_section(report: ReportData) -> Html:
    """Return the data, the settings of each system, and the command that compares them again."""
    data = report.dataset
    empty = data.queries_without_candidates
    facts = [
        ("Data", data.name),
        ("Candidates", f"{data.candidates:,}, from {data.first_stage}"),
        ("Queries", f"{data.queries:,} with a relevant document, of which {empty:,} found nothing"),
        ("Others", f"{data.queries_without_relevant:,} without a relevant document"),
        ("Relevant", f"from grade {data.min_grade} on; unjudged documents count as irrelevant"),
        ("Made by", f"qwen3-reranker {report.version}"),
    ]
    header = ["System", "Model", "Servers", "Max length", "Depth", "Judged", "Truncated"]
    rows = [_row(system) for system in report.systems]
    caption = (
        f"Judged is the share of judged documents among the first ones, as many as "
        f"{report.metrics[0]} counts: where it is low, the metrics underrate a system. Truncated "
        "is the share of the scored documents that were cut to fit the maximum length."
    )
    return tag(
        "section",
        tag("h2", "Settings, and how to repeat this"),
        tag("dl", *(tag(*pair) for fact in facts for pair in zip(("dt", "dd"), fact, strict=True))),
        wide_table(header, rows, caption),
        tag(
            "p",
            "This command compares all combinations of these settings. Put the path of the data "
            "for DATA, and add options that a report does not hold, such as --run and --precision.",
        ),
        tag("pre", tag("code", command(report))),
        tag(
            "p",
            "Queries that found nothing count as 0 in every metric. Queries without a relevant "
            "document count only for what scores say. Intervals are percentile bootstrap intervals "
            "of the mean over queries. The p-values are those of a two-sided paired "
            "randomization test. Of twenty systems that are as good as the retriever, one has p < "
            "0.05.",
        ),
    )


def command(report: ReportData) -> str:
    """Return a command that compares all combinations of a report's settings."""
    systems = report.systems[1:]
    options = _backends(systems)
    instructions = [system.instruction for system in systems]
    if any(instructions):
        options += _repeated("--instruction", (text or "default" for text in instructions))
    for option, values, word in (
        ("--depth", [system.depth for system in systems], "all"),
        ("--max-length", [system.max_length for system in systems], "default"),
    ):
        if any(values):
            chosen = [word if value is None else str(value) for value in dict.fromkeys(values)]
            options.append((option, ",".join(chosen)))
    options += _repeated("--metric", report.metrics)
    options += [("--min-grade", str(report.dataset.min_grade)), ("--report", "report.html")]
    return " \\\n    ".join(["qwen3-reranker evaluate DATA", *map(shlex.join, options)])


def _backends(systems: Sequence[SystemResult]) -> list[tuple[str, str]]:
    """Return the options that stand for the models and the servers of these systems."""
    pairs = dict.fromkeys((system.model or "", ",".join(system.base_url)) for system in systems)
    models, servers = (dict.fromkeys(values) for values in zip(*pairs, strict=True))
    # The command combines each --model with each --base-url, and cannot leave out one of them for
    # some systems only.
    if len(pairs) == len(models) * len(servers) and not any(
        "" in values and len(values) > 1 for values in (models, servers)
    ):
        return [*_repeated("--model", models), *_repeated("--base-url", servers)]
    return [("--model", f"{model}@{urls}" if urls else model) for model, urls in pairs]


def _repeated(option: str, values: Iterable[str]) -> list[tuple[str, str]]:
    """Return an option with each of its different values."""
    return [(option, value) for value in dict.fromkeys(values) if value]


def _row(system: SystemResult) -> list[str]:
    is_system = system.curves is not None
    return [
        system.name,
        system.model or ABSENT,
        ", ".join(system.base_url) or ABSENT,
        str(system.max_length or "default") if is_system else ABSENT,
        str(system.depth or "all") if is_system else ABSENT,
        f"{system.judged:.0%}",
        f"{system.truncated:.1%}" if is_system else ABSENT,
    ]
