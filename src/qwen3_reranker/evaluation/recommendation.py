"""Say in plain words what to do, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen3_reranker.evaluation.results import Advice, Headroom, SystemResult
from qwen3_reranker.evaluation.statistics import randomization_test

__all__ = ["SIGNIFICANT", "p_text", "recommend"]

SIGNIFICANT = 0.05
"""A difference with a p-value below this is called more than chance."""

# A depth is deep enough if it loses at most this share of the best depth's quality.
_CLOSE = 0.01
# So many documents are enough for an LLM if they reach this share of the hits of twenty.
_ENOUGH = 0.95


def recommend(
    systems: Sequence[SystemResult], headroom: Headroom, metric: str, precision: float
) -> list[Advice]:
    """
    Return what the results recommend.

    Args:
        systems: The retriever, then the systems, at least one.
        headroom: What any reranker could gain, at the depths of the systems among others.
        metric: The metric that decides. If no system is better by it than the retriever, there is
            no advice about a depth or a threshold.
        precision: The share of relevant documents that `min_score` should reach, in (0, 1].
    """
    retriever, *others = systems
    best = max(others, key=lambda system: system.metrics[metric])
    advice = [_rerank(retriever, best, metric), *_headroom(headroom, best, metric)]
    if best.metrics[metric] > retriever.metrics[metric]:
        advice += [_depth(best, metric), _top_n(best), _min_score(best, precision)]
    else:
        advice.append(_top_n(retriever))
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
        numbers += f"; {changes.helped} queries are better and {changes.hurt} worse"
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


def _depth(best: SystemResult, metric: str) -> Advice:
    assert best.curves is not None
    depths, means = best.curves.depth.depth, best.curves.depth.metrics[metric]
    chosen = next(n for n, mean in enumerate(means) if mean >= max(means) * (1 - _CLOSE))
    text = f"Rerank the first {depths[chosen]} candidates: {metric} is {means[chosen]:.3f} then"
    around = [n for n in (chosen - 1, chosen + 1, len(depths) - 1) if 0 <= n < len(depths)]
    compared = [
        f"{means[n]:.3f} with {depths[n]}" for n in sorted(dict.fromkeys(around)) if n != chosen
    ]
    return Advice("depth", depths[chosen], ", ".join([text, *compared]) + ".")


def _top_n(best: SystemResult) -> Advice:
    curve = best.top_n
    if not curve.top_n or curve.hit[-1] == 0:
        return Advice("top_n", None, "No relevant document is among the first ones at any top_n.")
    chosen = next(n for n, hit in enumerate(curve.hit) if hit >= curve.hit[-1] * _ENOUGH)

    def documents(index: int) -> str:
        count = curve.top_n[index]
        noun = "document" if count == 1 else "documents"
        if curve.tokens is None:
            return f"{count} {noun}"
        return f"{count} {noun} ({curve.tokens[index]:,.0f} tokens on average)"

    text = (
        f"Hand {documents(chosen)} to the LLM: {curve.hit[chosen]:.0%} of the queries have a "
        f"relevant one among them"
    )
    if curve.hit[-1] > curve.hit[chosen]:
        text += f", and {curve.hit[-1]:.0%} with {documents(len(curve.top_n) - 1)}"
    return Advice("top_n", curve.top_n[chosen], f"{text}.")


def _min_score(best: SystemResult, wanted: float) -> Advice:
    assert best.curves is not None
    curve, nothing = best.curves.min_score, best.curves.nothing_relevant
    known = [(n, value) for n, value in enumerate(curve.precision) if value is not None]
    reached = next(((n, value) for n, value in known if value >= wanted), None)
    if reached is None:
        if not known:
            return Advice("min_score", None, "No document was scored, so no min_score is known.")
        n, value = max(known, key=lambda item: item[1])
        text = (
            f"No min_score makes {wanted:.0%} of the documents relevant: the most is {value:.0%}, "
            f"with {curve.min_score[n]:.2f}."
        )
        return Advice("min_score", None, text)
    n, value = reached
    threshold = curve.min_score[n]
    text = (
        f"For a precision of {wanted:.0%} set min_score={threshold:g}: {value:.0%} of the "
        f"documents that it keeps are relevant, and it keeps {curve.recall[n]:.0%} of the relevant "
        "ones. "
        f"Where no candidate is relevant, {nothing.false_accept[n]:.0%} of the queries still keep "
        "a document."
    )
    return Advice("min_score", threshold, text)


def _instruction(systems: Sequence[SystemResult], best: SystemResult, metric: str) -> list[Advice]:
    """Compare the instructions of the systems that have the best one's other settings."""
    rivals = [s for s in systems if _but_instruction(s) == _but_instruction(best) and s != best]
    if not rivals:
        return []
    default = next((s for s in rivals if s.instruction is None), None)
    rival = default or max(rivals, key=lambda system: system.metrics[metric])
    ours, theirs = (np.array(system.per_query[metric]) for system in (best, rival))
    p = randomization_test(theirs, ours)
    numbers = (
        f"{metric} is {best.metrics[metric]:.3f} with {_quoted(best.instruction)} and "
        f"{rival.metrics[metric]:.3f} with {_quoted(rival.instruction)} ({p_text(p)})"
    )
    if p < SIGNIFICANT:
        text = f"Use {_quoted(best.instruction)}: {numbers}."
    else:
        text = f"These queries do not show that the instruction matters: {numbers}."
    return [Advice("instruction", best.instruction, text)]


def _but_instruction(system: SystemResult) -> tuple[object, ...]:
    return system.reranker, system.depth


def _quoted(instruction: str | None) -> str:
    return "the default instruction" if instruction is None else f'the instruction "{instruction}"'


def p_text(p: float) -> str:
    """Return a p-value in words."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
