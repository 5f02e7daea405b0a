"""The options for long documents, declared once for `Reranker`, both adapters and the CLI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, get_args

from qwen3_reranker.errors import InputError
from qwen3_reranker.options import Option, declared, resolve_options

__all__ = [
    "Aggregate",
    "AggregateName",
    "LongDocumentOptions",
    "passage_options",
    "pop_long_document_options",
]

AggregateName = Literal["max", "mean_top_3", "mean", "first"]
Aggregate = AggregateName | Callable[[Sequence[float]], float]

_MIN_TOKENS = 16


class LongDocumentOptions(TypedDict, total=False):
    """
    The options for long documents, which `Reranker` and both adapters take as keyword arguments.

    Attributes:
        long_documents: How to score a document that is too long for one prompt. "cut" (the default)
            truncates it at the end, as the model card does. "passages" divides every document of
            more than `passage_tokens` tokens into overlapping passages, scores each of them, and
            combines their scores. This requires the model's tokenizer.
        passage_tokens: The maximum number of tokens in a passage, at least 16 (default 512).
            Passages are shorter if `max_length` leaves less room beside the instruction and the
            query.
        passage_overlap: The number of tokens that two consecutive passages share, approximately,
            at least 0 and less than a passage has (default: an eighth of that, so 64).
        aggregate: How the scores of a document's passages make its score: "max" (the default),
            "mean_top_3" (the mean of the best three), "mean", or "first" (only the first passage is
            scored). It can also be a function of the scores, in the order of the text, that returns
            a number in [0, 1].
        max_passages: Score at most this many passages of each document, 1 or more, preferring those
            that share the query's rarer words (BM25 within the document). None (the default) scores
            all.
    """

    long_documents: Annotated[Literal["cut", "passages"], Option("cut")]
    passage_tokens: Annotated[int, Option(512, above=_MIN_TOKENS - 1)]
    passage_overlap: Annotated[int | None, Option(above=-1)]
    aggregate: Annotated[Aggregate, Option("max", opaque=True)]
    max_passages: Annotated[int | None, Option(above=0)]


def passage_options(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Check the options for long documents.

    Args:
        given: The options of `LongDocumentOptions` that were given, by name.

    Returns:
        The arguments of `PassageScorer`; None if documents are to be cut.

    Raises:
        InputError: An option cannot be used, or not together with another one.
    """
    options = resolve_options(given, LongDocumentOptions)
    if options.pop("long_documents") == "cut":
        defaults = {
            name: option.default for name, (_, option) in declared(LongDocumentOptions).items()
        }
        if others := [f"{name}=" for name in options if options[name] != defaults[name]]:
            raise InputError(
                f"{', '.join(others)} can be used only for passages: give "
                "long_documents='passages' too, or leave it out"
            )
        return None
    tokens, overlap, aggregate = (
        options[name] for name in ("passage_tokens", "passage_overlap", "aggregate")
    )
    if overlap is None:
        options["passage_overlap"] = tokens // 8
    elif overlap >= tokens:
        raise InputError(
            f"passage_overlap={overlap!r}: give less than passage_tokens={tokens!r}, or passages "
            "would not advance"
        )
    if not callable(aggregate) and aggregate not in get_args(AggregateName):
        names = ", ".join(map(repr, get_args(AggregateName)))
        raise InputError(
            f"aggregate={aggregate!r}: give one of {names}, or a function of a document's passage "
            "scores"
        )
    return options


def pop_long_document_options(options: dict[str, Any]) -> dict[str, Any]:
    """
    Remove the options for long documents from a mapping of options, and return them.

    Args:
        options: The options by name. Those for long documents are removed.
    """
    return {name: options.pop(name) for name in declared(LongDocumentOptions) if name in options}
