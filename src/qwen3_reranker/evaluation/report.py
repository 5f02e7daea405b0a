"""The result of an evaluation, as typed data that is saved as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qwen3_reranker.decoding import decode
from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.evaluation.report_data import ReportData
from qwen3_reranker.evaluation.text import results_table, summarize
from qwen3_reranker.output_files import write_atomically
from qwen3_reranker.paths import expand_user
from qwen3_reranker.terminal import escape_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["REPORT_FORMAT", "Report", "require_matplotlib"]

REPORT_FORMAT = 1
"""The version of the JSON format, which changes when a field does."""


@dataclass(frozen=True, repr=False)
class Report(ReportData):
    """
    The result of `evaluate()`.

    Attributes:
        dataset: What was evaluated.
        metrics: The names of the metrics. The first decides about recommendations.
        queries: The ids of the queries, in the order of `per_query`.
        systems: The retriever's order, then the systems in the order given.
        headroom: What any reranker could gain.
        recommendation: What to do, in plain words.
        version: The version of this package.
    """

    def __repr__(self) -> str:
        names = [system.name for system in self.systems]
        return f"Report({self.dataset.name!r}, {self.dataset.queries} queries, systems={names})"

    def table(self) -> str:
        """
        Return the means of all systems as a table in plain text.

        A star marks a difference from the retriever's order with a p-value below 0.05.
        """
        return results_table(self.systems, self.metrics)

    def summary(self) -> str:
        """
        Return the report in plain text: the table, the queries that lost most, and what to do.

        The queries are those of the system that is best by the first metric.
        """
        return summarize(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-like data, as `save()` writes it."""
        return {"format": REPORT_FORMAT, **dataclasses.asdict(self)}

    def plot(self, name: str, *, system: str | None = None, axes: Axes | None = None) -> Axes:
        """
        Draw a part of the report with matplotlib, as the HTML page shows it.

        Args:
            name: "systems", "depth", "top_n", "min_score", "scores" (histograms of relevant and
                irrelevant documents), "reliability", "headroom" or "nothing_relevant".
            system: The name of the reranker whose scores are drawn, where the plot is about one.
                None draws the best one's.
            axes: Where to draw. None makes a new figure.

        Returns:
            The axes, to change or to save: `report.plot("depth").figure.savefig("depth.png")`.

        Raises:
            InputError: There is no such plot or reranker, or it has nothing to show, because there
                is no candidate.
            MissingDependencyError: matplotlib is not installed.
        """
        require_matplotlib()
        from qwen3_reranker.evaluation.plots import plot

        return plot(self, name, self.best if system is None else self[system], axes)

    def save(self, path: str | Path) -> None:
        """
        Write the report to a .json file, or to an .html file to read.

        The page is one file without scripts that shows everything in the report: what to do, the
        systems side by side, the queries that lost most, and the curves of the best system.

        Raises:
            InputError: The name ends in neither .json nor .html.
            MissingDependencyError: The page needs matplotlib, which is not installed.
            OSError: The file cannot be written. An earlier one is unchanged.
        """
        path = expand_user(path)
        if path.suffix == ".json":
            data = json.dumps(self.as_dict(), ensure_ascii=False, indent=1, allow_nan=False)
            text = escape_json(data) + "\n"
        elif path.suffix == ".html":
            require_matplotlib()
            from qwen3_reranker.evaluation.report_page import report_page

            text = report_page(self)
        else:
            raise InputError(f"path={str(path)!r}: give a name that ends in .json or .html")
        write_atomically(path, text.encode())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """
        Read a report that `save()` wrote.

        Raises:
            InputError: The file cannot be read, or is not such a report.
        """
        try:
            data = json.loads(expand_user(path).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} is not a report: {error}") from None
        if not isinstance(data, dict) or data.get("format") != REPORT_FORMAT:
            raise InputError(f"{path} is not a report of format {REPORT_FORMAT}: evaluate again")
        del data["format"]
        try:
            return decode(cls, data)
        except ValueError as error:
            raise InputError(f"{path} is not a report of format {REPORT_FORMAT}: {error}") from None


def require_matplotlib() -> None:
    """
    Check that plots and pages can be made.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError(
            "plots and HTML reports need matplotlib: pip install 'qwen3-reranker[evaluation]'"
        )
