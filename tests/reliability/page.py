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
    about, forks = run["about"], run["forks"]
    lines = [
        (
            f"`{about['command']}`, {about['date']}: {about['machine']}; {run['callers']} callers, "
            f"{run['all']['seconds'] / 60:.0f} minutes."
        ),
        "",
        "| | Calls | Answered | Canceled | Errors | Wrong | Lost | Doubled | Longest stall, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, label in _NAMES.items():
        part = run[name]
        counts = [part[kind] for kind in ("calls", "answered", "canceled")]
        counts += [sum(part["errors"].values())]
        counts += [part[kind] for kind in ("wrong", "lost", "doubled")]
        shown = " | ".join(f"{count:,}" for count in counts)
        lines.append(f"| {label} | {shown} | {part['longest_stall']:.1f} |")
    lines += ["", "| Fault | Times | Longest recovery, s |", "|---|--:|--:|"]
    recoveries: dict[str, list[float | None]] = {}
    for event in run["faults"]:
        recoveries.setdefault(event["fault"], []).append(event["recovered"])
    for fault, seconds in recoveries.items():
        known = [second for second in seconds if second is not None]
        longest = f"{max(known):.1f}" if len(known) == len(seconds) else "none"
        lines.append(f"| {fault.capitalize()} | {len(seconds)} | {longest} |")
    errors = ", ".join(f"{count:,} {name}" for name, count in run["all"]["errors"].items())
    lines += [
        "",
        (
            f"Errors: {errors or 'none'}. Forked children: {forks['right']} right, "
            f"{len(forks['wrong'])} failed. Spoiled answers: {sum(run['wire_faults'].values()):,}. "
            f"Memory of the calling process: {run['memory_mib']:,} MiB at the end, growing by "
            f"{run['memory_mib_per_minute']} MiB per minute."
        ),
        "",
    ]
    return "\n".join(lines)
