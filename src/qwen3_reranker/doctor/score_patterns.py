"""What scores alone show: the pictures that need no knowledge of how they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qwen3_reranker.doctor.findings import Finding, finding_for_code
from qwen3_reranker.doctor.prompt_variants import Rows, distance
from qwen3_reranker.model.probe import NEXT_TO_ZERO, Outcome, logit, sigmoid

__all__ = ["double", "head", "judge", "order", "sigmoid_of"]


def judge(outcome: Outcome) -> list[Finding]:
    """Return what the probe's scores show; at least one finding."""
    broken = head(outcome, outcome.scores) or double(outcome)
    return [broken] if broken else [order(outcome)]


def head(outcome: Outcome, raw: Rows) -> Finding | None:
    """
    Return what is wrong with scores that are no judgement at all, whatever the template is.

    Args:
        outcome: The probe's, read as probabilities.
        raw: The numbers as on the wire.
    """
    flat = [score for row in outcome.scores for score in row]
    wire = [number for row in raw for number in row]
    if all(abs(score - 0.5) < 1e-6 for score in flat):
        return _head("all-half", "all scores are 0.5")
    if min(wire) >= 0 and max(wire) < NEXT_TO_ZERO and not outcome.passed:
        return _head("next-to-zero", f"all scores are next to 0 (at most {max(wire):.1e})")
    if unseen := _unseen(outcome.scores):
        return _head("identical-scores", unseen)
    if min(wire) < 0 and max(map(abs, wire)) <= 1 and not outcome.passed:
        return _head(
            "embedding-component",
            f"the scores are numbers between {min(wire):.2g} and {max(wire):.2g}, some of them "
            "below 0: neither probabilities nor the log-odds of obvious pairs",
        )
    return None


def sigmoid_of(outcome: Outcome, whole: Rows) -> Finding | None:
    """Return the picture of scores that are the sigmoid of what whole prompts get there."""
    again = [[sigmoid(p) for p in row] for row in whole]
    if distance(outcome.scores, again) > _CLOSE:
        return None
    return _head("double-sigmoid", "the scores are the sigmoid of whole prompts' own")


def double(outcome: Outcome) -> Finding | None:
    """Return the picture of a sigmoid, or a softmax of two, that was taken twice."""
    if outcome.logits:
        return None
    flat = [score for row in outcome.scores for score in row]
    for what, low, undo in _TWICE:
        if not low - _EDGE <= min(flat) <= max(flat) <= _HIGH + _EDGE:
            continue
        undone = Outcome(
            tuple(tuple(min(max(undo(p), 0.0), 1.0) for p in row) for row in outcome.scores)
        )
        # Squeezed scores that stand apart once undone: chance does not do that.
        if undone.passed and undone.margin > 1.5 * outcome.margin:
            return _head(
                "double-sigmoid",
                f"all scores lie between {min(flat):.4f} and {max(flat):.4f}, as probabilities do "
                f"whose {what} is taken once more; undone they are {undone}",
            )
    return None


def order(outcome: Outcome, answers: Sequence[Any] = ()) -> Finding:
    """
    Return whether right passages stand above irrelevant ones.

    Args:
        outcome: The probe's.
        answers: What the server sent; it may name its labels.
    """
    for answer in answers:
        if named := _named_otherwise(answer):
            return finding_for_code("scores", "order", "labels-inverted", named)
    if outcome.passed:
        return Finding("scores", "order", "ok", f"right against irrelevant: {outcome}")
    turned = Outcome(tuple(tuple(1 - p for p in row) for row in outcome.scores))
    if turned.passed:
        return finding_for_code(
            "scores", "order", "labels-inverted", f"it is upside down: {outcome}"
        )
    return finding_for_code(
        "scores", "order", "no-separation", f"right against irrelevant: {outcome}"
    )


def _head(code: str, found: str) -> Finding:
    return finding_for_code("scores", "head", code, found)


def _unseen(scores: Rows) -> str | None:
    """Return what the server does not see, by the scores that are the same."""
    flat = [score for row in scores for score in row]
    if max(flat) - min(flat) < _SAME:
        return f"all scores are {flat[0]:.3g}: neither query nor document is seen"
    if all(max(row) - min(row) < _SAME for row in scores):
        return "all documents of a query score the same: the document is not seen"
    (a, b, c), (d, e, f) = scores  # the same three passages, the first two of them swapped
    if max(abs(a - e), abs(b - d), abs(c - f)) < _SAME:
        return "a document scores the same for either query: the query is not seen"
    return None


def _named_otherwise(answer: Any) -> str | None:
    """Return how labels that a server names contradict the place from which P(yes) is read."""
    data = answer.get("data") if isinstance(answer, dict) else None
    for item in data if isinstance(data, list) else []:
        label, probs = str(item.get("label")).lower(), item.get("probs")
        if label not in ("yes", "no") or not isinstance(probs, list) or len(probs) != 2:
            continue
        # The label that a server names is the likelier one.
        swapped = (label == "yes") == (probs[0] > probs[1])
        if swapped and abs(probs[0] - probs[1]) > 1e-3:
            return f"the server's labels are [yes, no]: {item['label']!r} for {probs}"
    return None


_SAME = 1e-9
_CLOSE = 0.01
_EDGE = 1e-4
# sigmoid(1) is the most that a sigmoid makes of a probability.
_HIGH = 0.731059
_TWICE: tuple[tuple[str, float, Callable[[float], float]], ...] = (
    ("sigmoid", 0.5, logit),
    ("softmax", 1 - _HIGH, lambda p: (logit(p) + 1) / 2),
)
