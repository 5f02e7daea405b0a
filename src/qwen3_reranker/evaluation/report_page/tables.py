"""Tables that are lists of cards on narrow screens."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_reranker.markup import Html, tag

__all__ = ["ABSENT", "details", "table", "wide_table"]

ABSENT = "—"
"""Stands in a cell that has no value."""


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, class_: str = "narrow"
) -> Html:
    """Return a table, whose first column names the rows."""
    head = [tag("th", cell, scope="col", role="columnheader") for cell in header]
    body = []
    for first, *others in rows:
        cells = [
            tag("td", _whole(cell), role="cell", data_label=label)
            for label, cell in zip(header[1:], others, strict=True)
        ]
        body.append(tag("tr", tag("th", first, scope="row", role="rowheader"), *cells, role="row"))
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *head, role="row"), role="rowgroup"),
        tag("tbody", *body, role="rowgroup"),
        role="table",
        class_=class_,
    )


def wide_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Html:
    """
    Return a table that is a list of cards on narrow screens.

    The roles keep it a table for screen readers there, and the cells have the columns' names.
    """
    return tag("div", table(header, rows, caption, "wide"), class_="scroll")


def details(summary: str, *content: str) -> Html:
    """Return content that is shown on demand."""
    return tag("details", tag("summary", summary), *content)


def _whole(cell: str) -> Html:
    """Return a cell's content in elements, which the style places."""
    return cell if isinstance(cell, Html) else tag("span", cell)
