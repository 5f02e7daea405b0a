"""Say in plain words what to do, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qwen3_reranker.evaluation.results import (
    Advice,
    Headroom,
    SystemResult,
    TopNCurve,
    best_of,
    differ_only_in,
)
from qwen3_reranker.evaluation.statistics import TINY, randomization_test
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION

__all__ = ["SIGNIFICANT", "p_text", "recommend"]

SIGNIFICANT = 0.05
"""A difference with a p-value below this is called more than chance."""

# A depth is deep enough if it loses at most this share of the quality of the best depth, and at
# most this share of what reranking gains.
_LOST_QUALITY = 0.01
_LOST_GAIN = 0.5
# So many documents are enough for an LLM if they reach this share of the hits of twenty.
_ENOUGH = 0.95


def recommend(
    systems: Sequence[SystemResult],
    headroom: Headroom,
    metric: str,
    precision: float,
    at_depth: Callable[[SystemResult, int], SystemResult],
) -> list[Advice]:
    """
    Return what the results recommend.

    Args:
        systems: The retriever, then the systems, at least one.
        headroom: What any reranker could gain, at the depths of the systems among others.
        metric: The metric that decides. If no system is better by it than the retriever, there is
            no advice about a depth or a threshold.
        precision: The share of relevant documents that `min_score` should reach, in (0, 1].
        at_depth: Returns the result of a system at a smaller depth. `top_n` and `min_score` are
            recommended for the depth that is recommended.
    """
    retriever, *others = systems
    best = best_of(others, metric)
    advice = [_rerank(retriever, best, metric), *_headroom(headroom, best, metric)]
    if best.metrics[metric] - retriever.metrics[metric] > TINY:
        advice += _settings(retriever, best, metric, precision, at_depth)
    else:
        advice.append(_top_n(retriever.top_n, "In the retriever's order"))
    return advice + _instruction(others, best, metric)


def _rerank(retriever: SystemResult, best: SystemResult, metric: str) -> Advice:
    before, after = retriever.metrics[metric], best.metrics[metric]
    low, high = best.difference_intervals[metric]
    p = best.p_values[metric]
    numbers = (
        f"{metric} is {after:.3f} with {best.name} and {before:.3f} in the retriever's order "
        f"(difference {after - before:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, {p_text(p)})"
    )
    changes = best.changes
    if changes is not None:
        count = changes.helped + changes.unchanged + changes.hurt
        numbers += f"; {changes.helped} of {count} queries are better and {changes.hurt} worse"
    if p >= SIGNIFICANT:
        text = f"These queries do not show whether reranking helps: {numbers}."
        return Advice("rerank", None, text)
    helps = after > before
    verdict = f"Rerank with {best.name}" if helps else "Do not rerank with these systems"
    return Advice("rerank", helps, f"{verdict}: {numbers}.")


def _headroom(headroom: Headroom, best: SystemResult, metric: str) -> list[Advice]:
    """Say what a perfect order would reach at the depth of the best system."""
    depths = headroom.depth
    if not depths:
        return []
    n = depths.index(best.depth) if best.depth in depths else len(depths) - 1
    perfect = headroom.perfect[metric][n]
    text = (
        f"No reranker can exceed {metric} {perfect:.3f} with the first {depths[n]} "
        f"candidates, which have a relevant document for {headroom.hit[n]:.0%} of the queries."
    )
    return [Advice("headroom", perfect, text)]


def _settings(
    retriever: SystemResult,
    best: SystemResult,
    metric: str,
    precision: float,
    at_depth: Callable[[SystemResult, int], SystemResult],
) -> list[Advice]:
    """Recommend a depth for a system that is better than the retriever, and what fits the depth."""
    assert best.curves is not None
    depths, means = best.curves.depth.depth, best.curves.depth.metrics[metric]
    gain = best.metrics[metric] - retriever.metrics[metric]
    needed = max(max(means) * (1 - _LOST_QUALITY), max(means) - gain * _LOST_GAIN)
    good = [n for n, mean in enumerate(means) if mean >= needed]
    for chosen in good:  # the last one, if none has enough documents for an LLM
        depth = depths[chosen]
        system = best if depth == depths[-1] else at_depth(best, depth)
        if system.top_n.hit[:depth][-1] >= system.top_n.hit[-1] * _ENOUGH:
            break
    neighbors = {chosen - 1, chosen + 1, len(depths) - 1} - {chosen}
    compared = [chosen, *sorted(n for n in neighbors if 0 <= n < len(depths))]
    numbers = ", ".join(f"{means[n]:.3f} with {depths[n]}" for n in compared)
    unclear = best.p_values[metric] >= SIGNIFICANT
    verdict = "If you rerank nevertheless, rerank" if unclear else "Rerank"
    text = f"{verdict} the first {depth} candidates: {metric} is {numbers}."
    if chosen != good[0]:
        text += f" Fewer are enough for {metric}, but too few to hand to the LLM."
    condition = f"With the first {depth} candidates reranked"
    return [
        Advice("depth", depth, text),
        _top_n(system.top_n, condition, depth),
        _min_score(system, precision, condition),
    ]


def _top_n(curve: TopNCurve, condition: str, most: int | None = None) -> Advice:
    """Recommend how many documents to hand to the LLM, at most `most`."""
    hits = curve.hit[:most]
    if not hits or hits[-1] == 0:
        return Advice("top_n", None, f"{condition}, no query has a relevant document on top.")
    needed = min(curve.hit[-1] * _ENOUGH, hits[-1])
    chosen = next(n for n, hit in enumerate(hits) if hit >= needed)

    def documents(index: int) -> str:
        count = curve.top_n[index]
        noun = "document" if count == 1 else "documents"
        if curve.tokens is None:
            return f"{count} {noun}"
        return f"{count} {noun} ({curve.tokens[index]:,.0f} tokens on average)"

    text = (
        f"{condition}, hand {documents(chosen)} to the LLM: {hits[chosen]:.0%} of the queries "
        "have a relevant one among them"
    )
    if hits[-1] > hits[chosen]:
        text += f", and {hits[-1]:.0%} with {documents(len(hits) - 1)}"
    return Advice("top_n", curve.top_n[chosen], f"{text}.")


def _min_score(system: SystemResult, precision: float, condition: str) -> Advice:
    assert system.curves is not None
    curve, nothing = system.curves.min_score, system.curves.nothing_relevant
    known = [(n, value) for n, value in enumerate(curve.precision) if value is not None]
    reached = next(((n, value) for n, value in known if value >= precision), None)
    if reached is None:
        n, value = max(known, key=lambda item: item[1])
        text = (
            f"{condition}, no min_score makes {precision:.0%} of the documents relevant: the most "
            f"is {value:.0%}, with min_score={curve.min_score[n]:g}."
        )
        return Advice("min_score", None, text)
    # Of the thresholds that keep the same documents, prefer one with two decimals.
    first, value = reached
    kept = curve.documents[first]
    same = (n for n in range(first, len(curve.documents)) if curve.documents[n] == kept)
    n = min(same, key=lambda index: len(f"{curve.min_score[index]:g}") > len("0.00"))
    threshold = curve.min_score[n]
    text = (
        f"{condition}, set min_score={threshold:g} for a precision of at least {precision:.0%}: "
        f"{value:.0%} of the documents that it keeps are relevant, and it keeps "
        f"{curve.recall[n]:.0%} of the relevant candidates. Where no candidate is relevant, "
        f"{nothing.false_accept[n]:.0%} of the queries still keep a document."
    )
    return Advice("min_score", threshold, text)


def _instruction(systems: Sequence[SystemResult], best: SystemResult, metric: str) -> list[Advice]:
    """Compare the instructions of the systems that have the best one's other settings."""
    rivals = [
        system
        for system in systems
        if system is not best and differ_only_in("instruction", system, best)
    ]
    if not rivals:
        return []
    default = next((system for system in rivals if system.instruction is None), None)
    rival = default or best_of(rivals, metric)
    best_values, rival_values = (np.array(system.per_query[metric]) for system in (best, rival))
    p = randomization_test(rival_values, best_values)
    numbers = (
        f"{metric} is {best.metrics[metric]:.3f} with {_quoted(best.instruction)} and "
        f"{rival.metrics[metric]:.3f} with {_quoted(rival.instruction)} ({p_text(p)})"
    )
    if p >= SIGNIFICANT:
        text = f"These queries do not show that the instruction matters: {numbers}."
        return [Advice("instruction", None, text)]
    value = DEFAULT_INSTRUCTION if best.instruction is None else best.instruction
    return [Advice("instruction", value, f"Use {_quoted(best.instruction)}: {numbers}.")]


def _quoted(instruction: str | None) -> str:
    return "the default instruction" if instruction is None else f'the instruction "{instruction}"'


def p_text(p: float) -> str:
    """Return a p-value in words."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
