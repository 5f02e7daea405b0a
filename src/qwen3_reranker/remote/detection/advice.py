"""Messages of detection: why no dialect fits, what is uncertain, and what to change."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qwen3_reranker.errors import AnswerError, DetectionError, ServerError
from qwen3_reranker.model.probe import Outcome
from qwen3_reranker.problems import PROBLEMS, start_advice
from qwen3_reranker.remote.detection.route import Route
from qwen3_reranker.remote.detection.server_info import ServerInfo
from qwen3_reranker.remote.responses import is_absent, is_key_refusal

__all__ = ["Rejection", "ambiguity", "probe_error", "rejection", "template_error", "unlisted"]

_MISSING, _TWICE = "template-missing", "template-twice"

Rejection = tuple[str, ServerError | AnswerError]
"""The name of a dialect, and why it was rejected."""


class ProbeError(DetectionError):
    """
    The answers to the probe show a known problem.

    Attributes:
        code: Its code in `PROBLEMS`.
        advice: What to do.
    """

    code: str
    advice: str


def probe_error(code: str, seen: str, *, client_can_write: bool = False) -> ProbeError:
    """
    Return the error for a known problem.

    Args:
        code: Its code in `PROBLEMS`.
        seen: What the answers were.
        client_can_write: Whether the server also accepts prompts that the client has written.
    """
    problem = PROBLEMS[code]
    error = ProbeError(f"{problem.meaning} ({seen})")
    error.code, error.advice = code, problem.advise(client_can_write=client_can_write)
    return error


def rejection(
    url: str, server_info: ServerInfo, rejected: Sequence[Rejection], ambiguous: str | None
) -> ServerError:
    """
    Return the error that explains why no dialect fits.

    Args:
        url: The server.
        server_info: Its metadata.
        rejected: The dialects that were tried, and why each was rejected.
        ambiguous: The result of `ambiguity()`.
    """
    for _, error in rejected:
        if isinstance(error, ServerError) and is_key_refusal(error):
            return error
    known = [error for _, error in rejected if isinstance(error, ProbeError)]
    # What the tokens counted show is certain, unlike what the scores of other dialects look like.
    of_template = [error for error in known if error.code in (_MISSING, _TWICE)]
    advice = list(dict.fromkeys(error.advice for error in of_template or known))
    if len(rejected) == 1 and isinstance(rejected[0][1], ServerError):
        name, error = rejected[0]
        message = f"{url} ({server_info}), dialect {name}: {error}"
    else:
        there = [f"{name}: {error}" for name, error in rejected if not _absent(error)]
        absent = [name for name, error in rejected if _absent(error)]
        lines = [f"nothing at {url} ({server_info}) scores as a Qwen3 reranker does", *there]
        if absent:
            lines.append(f"not there: {', '.join(absent)}")
        message = "\n- ".join(lines)
        start = start_advice(server_info.kind)
        if start not in advice and not of_template:
            advice.append(start)
    notes = [f"Note: {ambiguous}"] if ambiguous else []
    return DetectionError("\n".join([message, *advice, *notes]))


def ambiguity(server_info: ServerInfo) -> str | None:
    """Return advice if several listed models may be the reranker; None if only one may be."""
    if not server_info.alternatives:
        return None
    names = ", ".join(map(repr, [*server_info.models[:1], *server_info.alternatives]))
    return (
        f"the server lists several models, of which {server_info.models[0]!r} was taken: give "
        f"model= to say which of {names} is the Qwen3 reranker"
    )


def unlisted(
    server_info: ServerInfo, *, model: bool, max_length: bool, tokenizer: bool
) -> str | None:
    """
    Return what is unknown because the server refused to list its models; None if it did not.

    Args:
        server_info: The server's metadata.
        model: Whether the model's name is known nevertheless.
        max_length: Whether the maximum length is known nevertheless.
        tokenizer: Whether the tokenizer is known nevertheless.
    """
    if server_info.refusal is None:
        return None
    known = {
        "the model's name": model,
        "its maximum length": max_length,
        "its tokenizer": tokenizer,
    }
    unknown = [name for name, is_known in known.items() if not is_known]
    effect = f"so this is unknown: {', '.join(unknown)}" if unknown else "but nothing is missing"
    return f"the list of models was refused, {effect} ({server_info.refusal})"


def template_error(route: Route, outcome: Outcome) -> ProbeError | None:
    """
    Return an error if the tokens counted show that the template is missing or written twice.

    Args:
        route: The route, with the template mode that is assumed.
        outcome: The result of the probe.
    """
    seen = f"the server counted {outcome.tokens} tokens for the probe"
    if not route.dialect.counts:
        return None
    if route.template_by == "client" and outcome.doubled:
        return probe_error(_TWICE, seen)
    if route.template_by == "server" and outcome.templated is False:
        can_write = "client" in route.dialect.template_modes
        return probe_error(_MISSING, seen, client_can_write=can_write)
    return None


def _absent(error: ServerError | AnswerError) -> bool:
    """Return whether the path does not exist. A 404 may also mean that the model does not."""
    about_model = re.search(r"answered 404: .*\bmodel\b", str(error), re.IGNORECASE)
    return is_absent(error) and not about_model
