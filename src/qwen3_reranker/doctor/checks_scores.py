"""
Determine from a server's scores who writes the template, and whether it is right.

The checks are pure: they use the evidence and send no requests. The most reliable evidence comes
first: the prompt that the server renders, the scores of complete prompts on the same server, the
tokens that it counted, the outcome with the other side's template, and finally the scores alone.
"""

from __future__ import annotations

from collections.abc import Callable

from qwen3_reranker.doctor.evidence import Evidence, client_can_write
from qwen3_reranker.doctor.findings import Finding, Status, first, ok, problem
from qwen3_reranker.doctor.prompt_variants import Variant, nearest
from qwen3_reranker.doctor.score_patterns import HEAD_CHECKS, ORDER_CHECKS
from qwen3_reranker.remote.detection import Route

__all__ = ["TEMPLATE_CHECKS", "check_scores", "check_template"]

# The tokens that a prompt lacks with each problem: the smallest and the largest number.
_MISSING_TOKENS = (("newline-lost", 1, 2), ("think-missing", 4, 5), ("suffix-cut", 8, 11))


def check_scores(evidence: Evidence) -> list[Finding]:
    """
    Return what a server's scores show.

    Args:
        evidence: The evidence about one route.

    Returns:
        One finding if the head or the template is wrong; otherwise one about the template and one
        about the scores.
    """
    if meaningless := first(HEAD_CHECKS, evidence):
        return [meaningless]
    template = check_template(evidence)
    if template.status == "problem":
        return [template]
    verdict = first(ORDER_CHECKS, evidence)
    return [template] if verdict is None else [template, verdict]


def check_template(evidence: Evidence) -> Finding:
    """Return who writes the template, and whether it is right."""
    unknown = f"{_endpoint(evidence)} counts no tokens, so it is not known who writes the template"
    return first(TEMPLATE_CHECKS, evidence) or Finding("scores", "template", "unknown", unknown)


def _by_rendering(evidence: Evidence) -> Finding | None:
    if evidence.rendered is None:
        return None
    return _of_variant(evidence, evidence.rendered, "according to the server's own rendering")


def _by_whole_prompts(evidence: Evidence) -> Finding | None:
    if not evidence.whole_prompts:
        return None
    variant = nearest(evidence.outcome.scores, evidence.whole_prompts, evidence.noise)
    if variant is None:
        return None
    return _of_variant(evidence, variant, "complete prompts of that form get the same scores")


def _of_variant(evidence: Evidence, variant: Variant, because: str) -> Finding:
    where = _endpoint(evidence)
    if variant.code is None:
        return ok(
            "scores",
            "template",
            f"written by {_writer(evidence)} ({where}), {variant.description}: {because}",
        )
    tokens, expected = evidence.outcome.tokens, evidence.expected_tokens
    counted = ""
    if tokens is not None and expected is not None:
        counted = f" ({tokens} tokens for the probe; the model card's prompts have {expected})"
    message = f"{where} scores a prompt with {variant.description}: {because}{counted}"
    return _problem(evidence, variant.code, message)


def _by_template_tokens(evidence: Evidence) -> Finding | None:
    """Recognize by the tokens counted that there is no template, or that there are two."""
    if evidence.outcome.templated is False:
        return _problem(evidence, "template-missing", _counted(evidence))
    if evidence.outcome.doubled:
        return _problem(evidence, "template-twice", _counted(evidence))
    return None


def _by_missing_tokens(evidence: Evidence) -> Finding | None:
    """Compare the tokens counted with those of the model card's prompts."""
    tokens, expected = evidence.outcome.tokens, evidence.expected_tokens
    if tokens is None or expected is None:
        return None
    counted = _counted(evidence)
    missing = (expected - tokens) / len(evidence.scores)
    if missing == 0:
        as_many = f"{counted}, as many as the model card's prompts have"
        return ok("scores", "template", f"written by {_writer(evidence)} ({as_many})")
    for code, least, most in _MISSING_TOKENS:
        if least <= missing <= most:
            fewer = f"{counted}, {missing:.3g} per pair fewer than the model card's prompts have"
            return _problem(evidence, code, fewer)
    message = f"{counted}; the model card's prompts have {expected}"
    status: Status = "warning" if evidence.outcome.passed else "problem"
    return _problem(evidence, "template-differs", message, status)


def _by_other_side(evidence: Evidence) -> Finding | None:
    """Conclude what is wrong from the right scores with the other side's template."""
    other = evidence.other_side
    if other is None or not other.passed or evidence.outcome.passed:
        return None
    client = _route(evidence).template_by == "client"
    alone = "the server" if client else "this client"
    message = (
        f"{_endpoint(evidence)} scores {evidence.outcome}, but {other} if {alone} alone writes the "
        "template"
    )
    return _problem(evidence, "template-twice" if client else "template-missing", message)


def _by_scores(evidence: Evidence) -> Finding | None:
    if not evidence.outcome.passed:
        return None
    message = f"written by {_writer(evidence)} ({_endpoint(evidence)}), judging by the scores"
    return ok("scores", "template", message)


def _route(evidence: Evidence) -> Route:
    if evidence.route is None:
        raise AssertionError("an engine's template is not checked")  # it is this package's own
    return evidence.route


def _writer(evidence: Evidence) -> str:
    return "this client" if _route(evidence).template_by == "client" else "the server"


def _endpoint(evidence: Evidence) -> str:
    route = _route(evidence)
    return f"{route.dialect.name} at {route.path}"


def _problem(evidence: Evidence, code: str, message: str, status: Status = "problem") -> Finding:
    can_write = client_can_write(_route(evidence).dialect)
    return problem("scores", "template", code, message, status=status, client_can_write=can_write)


def _counted(evidence: Evidence) -> str:
    tokens, pairs = evidence.outcome.tokens, len(evidence.scores)
    return f"{_endpoint(evidence)} counted {tokens} tokens for {pairs} pairs"


TEMPLATE_CHECKS: tuple[Callable[[Evidence], Finding | None], ...] = (
    _by_rendering,
    _by_whole_prompts,
    _by_template_tokens,
    _by_missing_tokens,
    _by_other_side,
    _by_scores,
)
"""The checks for who writes the template, and how; the most reliable evidence first."""
