"""Recognize problems by their patterns in scores, from a server or from an embedded engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qwen3_reranker.doctor.evidence import Evidence, is_embedding
from qwen3_reranker.doctor.findings import Finding, first, ok, problem
from qwen3_reranker.doctor.prompt_variants import distance
from qwen3_reranker.model.probability import logit, sigmoid
from qwen3_reranker.model.probe import Outcome

__all__ = ["HEAD_CHECKS", "ORDER_CHECKS", "judge"]

# Probabilities that differ by less are the same number.
_SAME = 1e-9
# Log-odds between the sigmoid of one score and another.
_CLOSE = 0.01
_EDGE = 1e-4
# The sigmoid of the highest probability: no probability after a second sigmoid is above it.
_HIGHEST = 0.731059
# Two labels that a server names are swapped if their probabilities differ by more.
_CLEAR = 1e-3
# The functions that may have been applied to a probability again: name, smallest result, inverse.
_SECOND_TIME: tuple[tuple[str, float, Callable[[float], float]], ...] = (
    ("sigmoid", 0.5, logit),
    ("softmax", 1 - _HIGHEST, lambda p: (logit(p) + 1) / 2),
)


def judge(evidence: Evidence) -> Finding:
    """Return the problem that the scores show, or else a finding about their order."""
    return first(HEAD_CHECKS, evidence) or first(ORDER_CHECKS, evidence) or _separation(evidence)


def _served_as_embedding(evidence: Evidence) -> Finding | None:
    if not is_embedding(evidence.model_info):
        return None
    message = f"SGLang reports is_generation=false for an original checkpoint; {evidence.outcome}"
    return _head("embedding-component", message)


def _all_half(evidence: Evidence) -> Finding | None:
    if evidence.outcome.all_half:
        return _head("all-half", "all scores are 0.5")
    return None


def _next_to_zero(evidence: Evidence) -> Finding | None:
    outcome = evidence.outcome
    if outcome.next_to_zero and not outcome.passed:
        return _head(
            "next-to-zero", f"all scores are almost 0 (at most {max(evidence.scores):.1e})"
        )
    return None


def _identical_scores(evidence: Evidence) -> Finding | None:
    """Recognize by equal scores that the server does not see the query or the document."""
    scores, rows = evidence.scores, evidence.outcome.scores
    message = ""
    (a, b, c), (d, e, f) = rows  # the same three passages, the first two swapped
    if evidence.outcome.identical:
        message = f"all scores are {scores[0]:.3g}: the model sees neither query nor document"
    elif all(max(row) - min(row) < _SAME for row in rows):
        message = "all documents of a query get one score: the model does not see the document"
    elif max(abs(a - e), abs(b - d), abs(c - f)) < _SAME:
        message = "a document gets one score for both queries: the model does not see the query"
    return _head("identical-scores", message) if message else None


def _embedding_component(evidence: Evidence) -> Finding | None:
    numbers = evidence.numbers
    if min(numbers) < 0 and max(map(abs, numbers)) <= 1 and not evidence.outcome.passed:
        return _head(
            "embedding-component",
            f"the scores lie between {min(numbers):.2g} and {max(numbers):.2g}, some of them below "
            "0: they are neither probabilities nor the log-odds of obvious pairs",
        )
    return None


def _sigmoid_of_whole_prompts(evidence: Evidence) -> Finding | None:
    """Recognize scores that are the sigmoid of what the correct prompts score on the server."""
    if 0 not in evidence.whole_prompts:
        return None
    again = [[sigmoid(p) for p in row] for row in evidence.whole_prompts[0]]
    if distance(evidence.outcome.scores, again) > _CLOSE:
        return None
    return _head("double-sigmoid", "the scores are the sigmoid of the scores of complete prompts")


def _double_sigmoid(evidence: Evidence) -> Finding | None:
    """Recognize a second sigmoid, or a softmax of two, by its range."""
    outcome, scores = evidence.outcome, evidence.scores
    if outcome.logits:
        return None
    for name, lowest, undo in _SECOND_TIME:
        if not lowest - _EDGE <= min(scores) <= max(scores) <= _HIGHEST + _EDGE:
            continue
        undone = Outcome(
            tuple(tuple(min(max(undo(p), 0.0), 1.0) for p in row) for row in outcome.scores)
        )
        # Chance does not produce narrow scores that are far apart once this is undone.
        if undone.passed and undone.margin > 1.5 * outcome.margin:
            return _head(
                "double-sigmoid",
                f"all scores lie between {min(scores):.4f} and {max(scores):.4f}, like "
                f"probabilities after another {name}; without it they are {undone}",
            )
    return None


def _named_labels(evidence: Evidence) -> Finding | None:
    """Compare the labels that a server names with the position that P(yes) is read from."""
    for answer in evidence.answers:
        data = answer.get("data") if isinstance(answer, dict) else None
        for item in data if isinstance(data, list) else []:
            if _is_swapped(item):
                message = (
                    f"the server's labels are [yes, no]: {item['label']!r} for {item['probs']}"
                )
                return problem("scores", "order", "labels-inverted", message)
    return None


def _is_swapped(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    label, probs = str(item.get("label")).lower(), item.get("probs")
    if label not in ("yes", "no") or not isinstance(probs, list) or len(probs) != 2:
        return False
    if not all(isinstance(p, int | float) for p in probs):
        return False
    # The label that a server names is the likelier one.
    swapped = (label == "yes") == (probs[0] > probs[1])
    return swapped and bool(abs(probs[0] - probs[1]) > _CLEAR)


def _inverted(evidence: Evidence) -> Finding | None:
    if not evidence.outcome.inverted:
        return None
    message = f"the order is inverted: {evidence.outcome}"
    return problem("scores", "order", "labels-inverted", message)


def _separation(evidence: Evidence) -> Finding:
    message = f"relevant and irrelevant passages: {evidence.outcome}"
    if evidence.outcome.passed:
        return ok("scores", "order", message)
    return problem("scores", "order", "no-separation", message)


def _head(code: str, message: str) -> Finding:
    return problem("scores", "head", code, message)


Check = Callable[[Evidence], Finding | None]

HEAD_CHECKS: tuple[Check, ...] = (
    _served_as_embedding,
    _all_half,
    _next_to_zero,
    _identical_scores,
    _embedding_component,
    _sigmoid_of_whole_prompts,
)
"""The checks for scores that no template could correct, the most reliable evidence first."""

ORDER_CHECKS: tuple[Check, ...] = (_double_sigmoid, _named_labels, _inverted, _separation)
"""The checks of scores with a correct template; the last one always has a finding."""
