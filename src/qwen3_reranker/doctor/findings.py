"""The findings of a diagnosis, and the report that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from qwen3_reranker.problems import PROBLEMS
from qwen3_reranker.terminal import escape_control

__all__ = [
    "SHOWN",
    "Area",
    "Finding",
    "Report",
    "Status",
    "first",
    "ok",
    "problem",
    "run_all",
]

_Evidence = TypeVar("_Evidence")

Area = Literal["environment", "model", "server", "scores"]
"""What a finding is about."""

Status = Literal["ok", "warning", "problem", "unknown"]
"""The result of a check; "unknown" if it could not be carried out here."""

SHOWN = 300
"""The maximum number of characters of an error in a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    The result of one check.

    Attributes:
        area: What it is about.
        check: The name of the check.
        status: The result; a report with a "problem" is not healthy.
        message: What was observed, with the numbers.
        advice: What to do; "" if nothing has to be done.
        code: The stable name of the problem, a key of `PROBLEMS`; None if there is none.
    """

    area: Area
    check: str
    status: Status
    message: str
    advice: str = ""
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """
    All findings about a target.

    Attributes:
        target: A URL, a model, or None for this environment alone.
        findings: The results of all checks, in the order in which they ran.
    """

    target: str | None
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether no finding has the status "problem"."""
        return not any(finding.status == "problem" for finding in self.findings)

    @property
    def codes(self) -> frozenset[str]:
        """The codes of all problems and warnings."""
        return frozenset(finding.code for finding in self.findings if finding.code)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as dictionaries, lists and strings, for JSON."""
        return {
            "target": self.target,
            "healthy": self.healthy,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        """Return one line per finding, with control characters escaped, and its advice below."""
        lines = []
        for finding in self.findings:
            code = f" [{finding.code}]" if finding.code else ""
            advice = f"\n    -> {finding.advice}" if finding.advice else ""
            head = f"{finding.status:>7}  {finding.area}: {finding.check}{code}"
            lines.append(escape_control(f"{head}: {finding.message}{advice}"))
        return "\n".join(lines)


def ok(area: Area, check: str, message: str) -> Finding:
    """Return the finding of a check that found no problem."""
    return Finding(area, check, "ok", message)


def problem(
    area: Area,
    check: str,
    code: str,
    message: str,
    *,
    status: Status = "problem",
    more: str = "",
    client_can_write: bool = False,
) -> Finding:
    """
    Return the finding of a known problem, with its advice.

    Args:
        area: What it is about.
        check: The name of the check.
        code: A key of `PROBLEMS`.
        message: What was observed, with the numbers.
        status: The result of the check.
        more: Advice for this case alone, which comes first.
        client_can_write: Whether the server also accepts complete prompts, which the client wrote.
    """
    advice = PROBLEMS[code].advise(client_can_write=client_can_write)
    return Finding(area, check, status, message, f"{more} {advice}".strip(), code)


def run_all(
    checks: Iterable[Callable[[_Evidence], Finding | None]], evidence: _Evidence
) -> list[Finding]:
    """Run checks in their order on the same evidence; return the findings of those that apply."""
    findings = (check(evidence) for check in checks)
    return [finding for finding in findings if finding is not None]


def first(
    checks: Iterable[Callable[[_Evidence], Finding | None]], evidence: _Evidence
) -> Finding | None:
    """Run checks in their order until one has a finding; return it, or None."""
    findings = (check(evidence) for check in checks)
    return next((finding for finding in findings if finding is not None), None)
