"""
What a server's scores say: which of the known failures they are a picture of.

Pure: takes what was gathered, asks nothing. The surest evidence comes first: how the same server
scores whole prompts, the variants of them included; then the tokens that it counted; then the
scores alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qwen3_reranker.dialects import Dialect, dialects
from qwen3_reranker.doctor.diagnostic_client import Probed
from qwen3_reranker.doctor.findings import Finding, Status, finding_for_code
from qwen3_reranker.doctor.prompt_variants import Rows, Variant, nearest
from qwen3_reranker.doctor.score_patterns import double, head, order, sigmoid_of
from qwen3_reranker.model.probe import Outcome

__all__ = ["Evidence", "client_can_write", "examine", "is_embedding", "template"]


@dataclass(frozen=True)
class Evidence:
    """
    What was gathered about one way to ask a server.

    Attributes:
        probed: The way, and its answers to the probe.
        info: What SGLang says of its model.
        expected: The tokens of the probe's prompts; None without a tokenizer.
        written: What the server says that its template writes, where that is a known variant.
        variants: The scores of whole prompts on the same server, by their place in `VARIANTS`.
        noise: By how much (log-odds) the scores of equal prompts differ there.
        other: What came out where the other side wrote the template; None where that is no way.
    """

    probed: Probed
    info: Mapping[str, Any] = field(default_factory=dict)
    expected: int | None = None
    written: Variant | None = None
    variants: Mapping[int, Rows] = field(default_factory=dict)
    noise: float = 0.0
    other: Outcome | None = None

    @property
    def outcome(self) -> Outcome:
        return self.probed.outcome


def examine(evidence: Evidence) -> list[Finding]:
    """Return what the scores show: at least one finding, and a problem where they are no good."""
    outcome, probed = evidence.outcome, evidence.probed
    if is_embedding(evidence.info):
        found = f"SGLang says is_generation=false of a causal checkpoint; it scores {outcome}"
        return [finding_for_code("scores", "head", "embedding-component", found)]
    if broken := head(outcome, probed.rows):
        return [broken]
    if 0 in evidence.variants and (twice := sigmoid_of(outcome, evidence.variants[0])):
        return [twice]
    written = template(evidence)
    if written.status == "problem":
        return [written]
    verdict = double(outcome) or order(outcome, [answer.raw for answer in probed.answers])
    return [written, verdict]


def is_embedding(info: Mapping[str, Any]) -> bool:
    """Say whether SGLang serves a causal checkpoint as an embedding model."""
    architectures = info.get("architectures") or []
    return info.get("is_generation") is False and architectures == ["Qwen3ForCausalLM"]


def template(evidence: Evidence) -> Finding:
    """Return who wrote the template, and how."""
    route, outcome = evidence.probed.route, evidence.outcome
    who = "this client" if route.template_by == "client" else "the server"
    at = f"{route.dialect.name} at {route.path}"
    found, how = evidence.written, "the server's own rendering says so"
    if found is None and evidence.variants:
        found = nearest(outcome.scores, evidence.variants, evidence.noise)
        how = "whole prompts score the same"
    if found is not None and found.code is None:
        return _ok(f"written by {who} ({at}), {found.what}: {how}")
    if found is not None and found.code is not None:
        said = f"{at} asks with {found.what}: {how}{_counted(evidence)}"
        return _picture(evidence, found.code, said)
    return _by_tokens(evidence, at) or _by_the_other(evidence, at) or _by_scores(evidence, who, at)


def _by_tokens(evidence: Evidence, at: str) -> Finding | None:
    """Return what the counted tokens prove."""
    outcome, expected = evidence.outcome, evidence.expected
    tokens = outcome.tokens
    if tokens is None:
        return None
    pairs = sum(len(row) for row in outcome.scores)
    counted = f"{at} counted {tokens} tokens for {pairs} pairs"
    if outcome.templated is False:
        return _picture(evidence, "template-missing", counted)
    if outcome.doubled:
        return _picture(evidence, "template-twice", counted)
    if expected is None:
        return None
    return _against(evidence, (expected - tokens) / pairs, counted)


def _against(evidence: Evidence, lost: float, counted: str) -> Finding:
    """Return what it means that a pair had so many tokens fewer than the model card's prompt."""
    if lost == 0:
        who = "this client" if evidence.probed.route.template_by == "client" else "the server"
        return _ok(f"written by {who} ({counted}, as many as the model card's prompts have)")
    for code, low, high in _LOST:
        if low <= lost <= high:
            return _picture(evidence, code, f"{counted}, {lost:.3g} fewer a pair than they have")
    return _picture(
        evidence,
        "template-differs",
        f"{counted}; the model card's prompts have {evidence.expected}",
        status="warning" if evidence.outcome.passed else "problem",
    )


def _by_the_other(evidence: Evidence, at: str) -> Finding | None:
    """Return what follows from the other side's writing being right."""
    if evidence.other is None or not evidence.other.passed or evidence.outcome.passed:
        return None
    client = evidence.probed.route.template_by == "client"
    return _picture(
        evidence,
        "template-twice" if client else "template-missing",
        f"{at} scores {evidence.outcome}, and {evidence.other} where "
        f"{'the server' if client else 'this client'} alone writes the template",
    )


def _by_scores(evidence: Evidence, who: str, at: str) -> Finding:
    if evidence.outcome.passed:
        return _ok(f"written by {who} ({at}), by the scores")
    return Finding(
        "scores", "template", "unknown", f"{at} counts no tokens, so who writes it cannot be told"
    )


def _counted(evidence: Evidence) -> str:
    tokens = evidence.outcome.tokens
    if tokens is None or evidence.expected is None:
        return ""
    return f" ({tokens} tokens for the probe; the model card's prompts have {evidence.expected})"


def client_can_write(dialect: Dialect) -> bool:
    """Return whether servers of this kind also take prompts that a client wrote."""
    return any(
        "client" in other.template_modes for other in dialects() if other.kind == dialect.kind
    )


def _picture(evidence: Evidence, code: str, found: str, status: Status = "problem") -> Finding:
    can_write = client_can_write(evidence.probed.route.dialect)
    return finding_for_code(
        "scores", "template", code, found, status=status, client_can_write=can_write
    )


def _ok(found: str) -> Finding:
    return Finding("scores", "template", "ok", found)


# How many tokens a pair has fewer.
_LOST = (("newline-lost", 1, 2), ("think-missing", 4, 5), ("suffix-cut", 8, 11))
