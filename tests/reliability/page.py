"""The figures of the last soak test in docs/explanation/reliability.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["PAGE", "tables", "updated"]

PAGE = Path(__file__).parents[2] / "docs/explanation/reliability.md"
_BEGIN, _END = "<!-- figures of make soak -->\n", "<!-- end -->\n"
_NAMES = {
    "engine": "Embedded engine",
    "cached": "Embedded engine, with a cache",
    "servers": "Three servers",
    "gateway": "Gateway before the servers",
    "all": "All",
}
_FAULTS = {
    "reset answers": "connections reset",
    "storm answers": "status 429",
    "slow answers": "late answers",
    "shuffled answers": "answers in another order",
    "not a number answers": "NaN in place of a score",
    "short answers": "a score is missing",
    "doubled answers": "a score is doubled",
    "reset answers of all servers": "connections reset, all servers",
    "storm answers of all servers": "status 429, all servers",
}
# The counts, by the heads of their columns.
_COUNTS = {
    "Calls": "calls",
    "Answered": "answered",
    "Canceled": "canceled",
    "Errors": "errors",
    "Unexpected": "unexpected",
    "Wrong": "wrong",
    "Lost": "lost",
    "Doubled": "doubled",
    "Late": "late",
}


def updated(page: str, run: dict[str, Any]) -> str:
    """
    Return the page with the figures of a run.

    Args:
        page: The page.
        run: The content of soak.json.
    """
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{tables(run)}\n{_END}{after}"


def tables(run: dict[str, Any]) -> str:
    """Return the figures of a run as Markdown."""
    about, forks, memory = run["about"], run["forks"], run["memory"]
    lines = [
        (
            f"`{about['command']}`, {about['date']}: {about['machine']}; {run['callers']} callers, "
            f"{run['all']['seconds'] / 60:.0f} minutes."
        ),
        "",
        _row("", *_COUNTS, "Longest call, s", "Longest stall, s"),
        "|---|" + (len(_COUNTS) + 2) * "--:|",
    ]
    for name, label in _NAMES.items():
        part = run[name] | {"errors": sum(run[name]["errors"].values())}
        counts = (f"{part[kind]:,}" for kind in _COUNTS.values())
        longest = (f"{part[kind]:.1f}" for kind in ("longest_seconds", "longest_stall"))
        lines.append(_row(label, *counts, *longest))
    lines += ["", _row("Fault", "Times", "Longest recovery, s"), "|---|--:|--:|"]
    recoveries: dict[str, list[float | None]] = {}
    for event in run["faults"]:
        if event["met"]:
            recoveries.setdefault(event["fault"], []).append(event["recovered"])
    for fault, seconds in recoveries.items():
        known = [second for second in seconds if second is not None]
        slowest = f"{max(known):.1f}" if len(known) == len(seconds) else "none"
        label = _FAULTS.get(fault, fault)
        lines.append(_row(label[0].upper() + label[1:], len(seconds), slowest))
    errors = ", ".join(f"{count:,} {name}" for name, count in run["all"]["errors"].items())
    lines += [
        "",
        (
            f"Errors: {errors or 'none'}. Forked children: {forks['right']} right, "
            f"{len(forks['wrong'])} failed. Spoiled answers: {sum(run['wire_faults'].values()):,}. "
            f"Memory of the calling process: {memory['mib']:,} MiB at the end; after the first "
            f"third of the run it grew by {memory['grown_mib']} MiB, and the number of blocks of "
            f"Python's allocator by {memory['blocks_per_minute']:,.0f} per minute."
        ),
        "",
    ]
    return "\n".join(lines)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |".replace("|  |", "| |")
