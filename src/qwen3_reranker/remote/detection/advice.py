"""Messages of detection: why no dialect fits, what is uncertain, and what to change."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qwen3_reranker.errors import AnswerError, DetectionError, ServerError
from qwen3_reranker.model.probe import Outcome
from qwen3_reranker.remote.detection.route import Route
from qwen3_reranker.remote.detection.server_info import ServerInfo

__all__ = ["Rejection", "TemplateError", "ambiguity", "rejection", "template_error", "unlisted"]

Rejection = tuple[str, ServerError | AnswerError]
"""The name of a dialect, and why it was rejected."""

# What to change, by the kind of server.
_ADVICE = {
    "vLLM": (
        'Start it with --runner pooling and --hf-overrides \'{"architectures": '
        '["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"], '
        '"is_original_qwen3_reranker": true}\' for an original checkpoint, without them for a '
        "converted one."
    ),
    "SGLang": (
        "Start it with the original checkpoint and without --is-embedding, or with a checkpoint "
        "converted to two labels [no, yes] and --is-embedding."
    ),
    "llama.cpp": (
        "Start it with --rerank and a GGUF file that holds the head and the template named rerank; "
        "llama.cpp's converter writes them if the model folder's name contains qwen3-reranker."
    ),
    "Infinity": "Give it a checkpoint with one label: qwen3-reranker convert MODEL FOLDER --labels 1.",
    "LiteLLM": "Give the proxy's key, without which it answers 500, and a rerank model's name.",
    "": "Give dialect= and template= if you know them; docs/how-to/servers.md says how to start a "
    "server.",
}


class TemplateError(DetectionError):
    """The prompt has the template twice or not at all. The message says how to change that."""


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
        if isinstance(error, ServerError) and error.status in (401, 403):
            return error
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
        if not any(isinstance(error, TemplateError) for _, error in rejected):
            message += "\n" + _ADVICE.get(server_info.kind or "", _ADVICE[""])
    return DetectionError(f"{message}\nNote: {ambiguous}" if ambiguous else message)


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


def template_error(route: Route, outcome: Outcome) -> TemplateError | None:
    """
    Return an error if the tokens counted show that the template is missing or written twice.

    Args:
        route: The route, with the template mode that is assumed.
        outcome: The result of the probe.
    """
    if route.template_by == "client" and route.dialect.counts and outcome.doubled:
        return TemplateError(
            f"the server counted {outcome.tokens} tokens for the probe, so it writes the template "
            "around a written prompt: give template='server', or start it without its own"
        )
    if route.template_by == "server" and route.dialect.counts and outcome.templated is False:
        instead = "give template='client', or " if "client" in route.dialect.template_modes else ""
        return TemplateError(
            f"the server counted {outcome.tokens} tokens for the probe, so it writes no template: "
            f"{instead}start it with a Qwen3 reranker's"
        )
    return None


def _absent(error: ServerError | AnswerError) -> bool:
    """Return whether the path does not exist. A 404 may also mean that the model does not."""
    return (
        isinstance(error, ServerError)
        and error.status in (404, 405)
        and not re.search(r"answered 404: .*\bmodel\b", str(error), re.IGNORECASE)
    )
