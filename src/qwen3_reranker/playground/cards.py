"""Show rankings as cards."""

from __future__ import annotations

from typing import NamedTuple

from qwen3_reranker.markup import Html, join, tag
from qwen3_reranker.playground.ranking import Ranked, Result
from qwen3_reranker.ranking import Hit
from qwen3_reranker.usage import Usage

__all__ = ["MAX_CARDS", "result_html"]

MAX_CARDS = 200
"""The maximum number of cards in a ranking. The export has all documents."""

# Characters of a text that a card shows, and before and after the passage that counted.
_SHOWN = 360
_AROUND = 100


def result_html(result: Result) -> Html:
    """Return the rankings of a run, side by side if there are two."""
    before = list(range(len(result.documents)))  # the documents in the order given
    columns = []
    for side, ranked in enumerate(result.rankings):
        columns.append(_column(result, ranked, before, side))
        before = [hit.index for hit in ranked.hits]
    heading = tag("h2", "Results for ", tag("q", result.inputs.query.strip()), class_="for")
    kind = "columns two" if len(columns) > 1 else "columns"
    return tag("section", heading, tag("div", *columns, class_=kind), class_="result")


def _column(result: Result, ranked: Ranked, before: list[int], side: int) -> Html:
    compared = len(result.rankings) > 1
    reference = "A" if side else "the order given"
    places = {index: place for place, index in enumerate(before)}
    cards = []
    for rank, hit in enumerate(ranked.hits[:MAX_CARDS]):
        if rank == ranked.kept:
            cards.append(_limit(result, ranked))
        move = _move(places[hit.index], rank, reference)
        cards.append(_card(hit, rank, move, kept=rank < ranked.kept))
    content = [tag("p", _summary(ranked.usage), class_="usage")]
    if compared:
        content.insert(0, tag("h3", f"{'AB'[side]} ", tag("span", ranked.setting.model)))
    content.append(_instruction(ranked.setting.instruction))
    content.append(tag("ol", *cards, class_="hits"))
    if (more := len(ranked.hits) - MAX_CARDS) > 0:
        content.append(tag("p", f"{more} more documents are in the export.", class_="more"))
    return tag("section", *content, class_="column")


def _instruction(instruction: str) -> Html:
    return tag("p", tag("b", "Instruction: "), instruction, class_="instruction")


def _limit(result: Result, ranked: Ranked) -> Html:
    """Return the line above the documents that are not kept."""
    inputs, dropped = result.inputs, len(ranked.hits) - ranked.kept
    limits = []
    if inputs.min_score is not None:
        limits.append(f"min_score {inputs.min_score:g}")
    if inputs.top_n is not None:
        limits.append(f"top_n {inputs.top_n}")
    text = f"{_count(dropped, 'document')} below left out by {' and '.join(limits)}"
    return tag("li", text, class_="limit")


class _Move(NamedTuple):
    """
    How the rank of a document differs from another order.

    Attributes:
        symbol: What to show.
        text: The same in words.
        kind: The class of its style.
    """

    symbol: str
    text: str
    kind: str


def _move(place: int, rank: int, reference: str) -> _Move:
    """Return how a document moved from its place in another order; both count from 0."""
    move = place - rank
    where = f"was {place + 1} in {reference}"
    if move > 0:
        return _Move(f"▲ {move}", f"up {move}, {where}", "up")
    if move < 0:
        return _Move(f"▼ {-move}", f"down {-move}, {where}", "down")
    return _Move("=", f"unchanged, {where}", "same")


def _card(hit: Hit, rank: int, move: _Move, *, kept: bool) -> Html:
    header = tag(
        "div",
        tag("span", f"{rank + 1}", class_="rank"),
        _bar(hit),
        tag("span", move.symbol, class_=f"move {move.kind}", title=move.text, aria_label=move.text),
        tag("span", f"document {hit.index + 1}", class_="number"),
        class_="head",
    )
    marks = [tag("span", text, class_="mark", title=why) for text, why in _marks(hit)]
    kind = "hit" if kept else "hit out"
    return tag("li", header, *marks, _text(hit), class_=kind)


def _bar(hit: Hit) -> Html:
    percent = f"{100 * hit.score:.2f}%"
    score = f"{hit.score:.4f}"
    return join(
        tag(
            "span",
            tag("span", class_="fill", style=f"width:{percent}"),
            class_="bar",
            role="meter",
            aria_label="P(yes)",
            aria_valuemin="0",
            aria_valuemax="1",
            aria_valuenow=score,
        ),
        tag("span", score, class_="score", title=f"P(yes) {hit.score!r}, log-odds {hit.logit:.3f}"),
    )


def _marks(hit: Hit) -> list[tuple[str, str]]:
    """Return what a reader should know of how a document was scored."""
    marks = []
    if not hit.text.strip():
        marks.append(("blank", "Blank documents are not scored"))
    if hit.truncated:
        marks.append(
            ("end cut off", "The document does not fit into one prompt, so its end was not read")
        )
    if hit.passage is not None and hit.passage.count > 1:
        marks.append(
            (
                f"best of {hit.passage.count} passages",
                f"The highlighted passage decided the score; its own is {hit.passage.score:.4f}",
            )
        )
    return marks


def _text(hit: Hit) -> Html:
    """Return the text of a document, shortened if it is long, with the passage that counted."""
    text, passage = hit.text, hit.passage
    start, end = (0, 0) if passage is None or passage.count == 1 else (passage.start, passage.end)
    whole = join(text[:start], _marked(text[start:end]), text[end:])
    if len(text) <= _SHOWN:
        return tag("div", whole, class_="text", dir="auto")
    before, counted = text[:start], text[start:end]
    if start or end:
        shown = _beginning(counted, _SHOWN)
        after = _beginning(text[end:], _AROUND) if shown == counted else ""
        preview = join(_ending(before, _AROUND), _marked(shown), after)
    else:
        preview = join(_beginning(text, _SHOWN))
    summary = tag(
        "summary",
        tag("span", preview, class_="preview", dir="auto"),
        tag("span", f"Whole text ({len(text):,} characters)", class_="more"),
    )
    return tag("details", summary, tag("div", whole, class_="text", dir="auto"))


def _beginning(text: str, length: int) -> str:
    """Return a text up to a length, without a word that is cut."""
    if len(text) <= length:
        return text
    head, _, rest = text[:length].rpartition(" ")
    return f"{head or rest} …"


def _ending(text: str, length: int) -> str:
    """Return the end of a text of a length, without a word that is cut."""
    if len(text) <= length:
        return text
    rest, _, tail = text[-length:].partition(" ")
    return f"… {tail or rest}"


def _marked(text: str) -> Html:
    return tag("mark", text) if text else Html()


def _summary(usage: Usage) -> str:
    """Return what a ranking cost, in a line."""
    parts = [_count(usage.documents, "document")]
    if usage.passages:
        parts.append(_count(usage.passages, "passage"))
    if usage.scored or not usage.cached:
        tokens = _count(usage.tokens, "token")
        parts.append(f"at least {tokens}" if usage.uncounted else tokens)
    if usage.cached:
        parts.append(f"{usage.cached:,} scores from the cache")
    if usage.truncated:
        parts.append(f"{usage.truncated:,} cut off")
    parts.append(f"{usage.seconds:.2f} s")
    return " · ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
