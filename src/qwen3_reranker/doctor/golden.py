"""Published scores of the real models, and the demo model's own: what a server must come close to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen3_reranker.doctor.findings import Finding, Status, finding_for_code
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.probe import PROBES, logit

__all__ = ["Golden", "compare", "golden_of", "no_golden"]

_MARS = "Which planet is known as the Red Planet?"
_CHINA, _GRAVITY = (query for query, _ in PROBES)
_BEIJING, _FORCE = (texts[0] for _, texts in PROBES)


@dataclass(frozen=True, slots=True)
class Golden:
    """A query with its documents, and the log-odds of each."""

    query: str
    documents: tuple[str, ...]
    logits: tuple[float, ...]


_DEMO = tuple(
    Golden(query, texts, logits)
    for (query, texts), logits in zip(
        PROBES, ((6.2052, -3.7479, -3.9026), (1.7348, -3.2674, -1.5325)), strict=True
    )
)
_SMALL = (
    # sentence-transformers' CrossEncoder, fp32.
    Golden(
        _MARS,
        (
            "Venus is often called Earth's twin because of its similar size and proximity.",
            "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
            "Jupiter, the largest planet in our solar system, has a prominent red spot.",
            "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
        ),
        (-3.1093, 7.1204, -0.3788, 3.5416),
    ),
    # SGLang's /v1/classify.
    Golden(_CHINA, ("I want to eat an apple",), (logit(2.378e-05),)),
    Golden(_GRAVITY, (_FORCE,), (logit(0.99940),)),
)
_LARGE = (Golden(_CHINA, (_BEIJING, _FORCE), (logit(0.99437), logit(6.9e-07))),)
_BY_NAME: Mapping[str, Sequence[Golden]] = {
    "qwen3-reranker-0.6b": _SMALL,
    "qwen3-reranker-8b": _LARGE,
}

# Log-odds. bf16 moves the real models' by 0.1 to 0.2; more than the second is another model.
_FINE = 0.5
_OTHER = 2.0
# Scores beyond this differ in their last digits.
_EDGE = 10.0
# A bias moves all log-odds alike.
_ALIKE = 0.2


def golden_of(names: Sequence[str]) -> tuple[str, Sequence[Golden]] | None:
    """Return the published scores of the first of the names that has some, with that name."""
    for name in names:
        if name == "demo" or Path(name).expanduser() == DEMO_MODEL:
            return "the demo model", _DEMO
        for known, golden in _BY_NAME.items():
            if re.search(rf"{re.escape(known)}(?![0-9a-z])", name.lower()):
                return name, golden
    return None


def compare(name: str, golden: Sequence[Golden], scores: Sequence[Sequence[float]]) -> Finding:
    """Hold a model's probabilities to its golden ones."""
    wanted = [x for one in golden for x in one.logits]
    got = [logit(p) for row in scores for p in row]
    pairs = list(zip(got, wanted, strict=True))
    largest = max((abs(_bounded(a) - _bounded(b)) for a, b in pairs))
    found = f"{len(pairs)} pairs of {name}: log-odds differ by at most {largest:.2g}"
    if largest <= _FINE:
        return Finding("scores", "golden pairs", "ok", found)
    moved = [a - b for a, b in pairs if max(abs(a), abs(b)) < _EDGE]
    mean = sum(moved) / len(moved) if moved else 0.0
    if len(moved) > 2 and max(abs(d - mean) for d in moved) <= _ALIKE:
        alike = f"{len(moved)} pairs of {name} are off by {mean:+.2f} of log-odds alike"
        return finding_for_code("scores", "golden pairs", "random-head-bias", alike)
    status: Status = "warning" if largest <= _OTHER else "problem"
    return finding_for_code("scores", "golden pairs", "golden-mismatch", found, status=status)


def no_golden(name: str | None) -> Finding:
    """Say that there is nothing to compare a model's scores with."""
    return Finding("scores", "golden pairs", "unknown", f"none are published for {name}")


def _bounded(x: float) -> float:
    return min(max(x, -_EDGE), _EDGE)
