"""Compare scores with the published scores of the real models and those of the demo model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3_reranker.doctor.findings import Finding, Status, ok, problem
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.probability import LOG_ODDS_BOUND, log_odds_distance, logit
from qwen3_reranker.model.probe import PROBES
from qwen3_reranker.paths import expand_user

__all__ = ["Golden", "KnownModel", "compare", "golden_of", "no_golden"]

_MARS = "Which planet is known as the Red Planet?"
_CHINA, _GRAVITY = (query for query, _ in PROBES)
_BEIJING, _FORCE = (texts[0] for _, texts in PROBES)


@dataclass(frozen=True, slots=True)
class Golden:
    """
    A query, and the published scores of its documents.

    Attributes:
        query: The query.
        documents: Its documents.
        logits: The log-odds of each document, in the same order.
    """

    query: str
    documents: tuple[str, ...]
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """
    A model with known scores, judging by its name.

    Attributes:
        name: The name.
        golden: The known scores.
        certain: Whether the name is exactly the one that the scores were published for. A name that
            only contains it may be that of a fine-tuned model, which has other scores.
    """

    name: str
    golden: Sequence[Golden]
    certain: bool


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

# Log-odds. bf16 moves those of the real models by 0.1 to 0.2. A difference above the first is a
# warning, above the second another model.
_FINE, _OTHER_MODEL = 0.5, 2.0
# A bias moves all log-odds by the same amount, give or take this.
_EQUAL_SHIFT = 0.2

_FINE_TUNED = (
    "The name only contains that of a published model: if this model was fine-tuned, its scores "
    "differ for that reason."
)


def golden_of(names: Sequence[str]) -> KnownModel | None:
    """
    Find the known scores of a model.

    Args:
        names: The names that the model goes by.

    Returns:
        The model; None if no scores are known for any of the names. A name that only contains a
        published one comes before the published one itself, under which fine-tuned models are
        served, too.
    """
    known = [model for model in map(_known, names) if model is not None]
    return min(known, key=lambda model: model.certain, default=None)


def _known(name: str) -> KnownModel | None:
    if _is_demo(name):
        return KnownModel("the demo model", _DEMO, certain=True)
    for published, golden in _BY_NAME.items():
        if re.search(rf"{re.escape(published)}(?![0-9a-z])", name.lower()):
            last = re.split(r"[/\\]", name.lower().rstrip("/"))[-1]
            return KnownModel(name, golden, certain=last == published)
    return None


def _is_demo(name: str) -> bool:
    return name == "demo" or expand_user(name) == DEMO_MODEL


def compare(model: KnownModel, scores: Sequence[Sequence[float]]) -> Finding:
    """
    Compare a model's scores with those that are known.

    Args:
        model: The known scores.
        scores: The model's probabilities, one list per query of `model.golden`.
    """
    name = model.name
    expected = [x for known in model.golden for x in known.logits]
    actual = [logit(p) for row in scores for p in row]
    pairs = list(zip(actual, expected, strict=True))
    largest = max(log_odds_distance(a, b) for a, b in pairs)
    message = f"{len(pairs)} pairs of {name}: log-odds differ by at most {largest:.2g}"
    if largest <= _FINE:
        return ok("scores", "golden pairs", message)
    shifts = [a - b for a, b in pairs if max(abs(a), abs(b)) < LOG_ODDS_BOUND]
    mean = sum(shifts) / len(shifts) if shifts else 0.0
    status: Status = "problem" if model.certain else "warning"
    more = "" if model.certain else _FINE_TUNED
    if len(shifts) > 2 and max(abs(shift - mean) for shift in shifts) <= _EQUAL_SHIFT:
        message = f"the log-odds of {len(shifts)} pairs of {name} are all shifted by {mean:+.2f}"
        code = "random-head-bias"
    else:
        code = "golden-mismatch"
        status = status if largest > _OTHER_MODEL else "warning"
    return problem("scores", "golden pairs", code, message, status=status, more=more)


def no_golden(name: str | None) -> Finding:
    """Return the finding for a model without known scores; the name is None if it is unknown."""
    message = (
        "the model's name is unknown, so its scores cannot be compared with published ones"
        if name is None
        else f"no scores of {name} are published"
    )
    return Finding("scores", "golden pairs", "unknown", message)
