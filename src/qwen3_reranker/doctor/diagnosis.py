"""
Diagnose an environment, a model or a server: what is wrong, and what to do about it.

A server gets the same requests as from a reranker. If its detection fails, every dialect is tried
with the template on either side, and the likeliest combination is examined. Anything that a server
answers, and no answer at all, becomes a finding, never an error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

from qwen3_reranker import event_loop
from qwen3_reranker.doctor.checks_environment import check_environment
from qwen3_reranker.doctor.checks_model import check_model
from qwen3_reranker.doctor.diagnostic_client import DiagnosticClient
from qwen3_reranker.doctor.evidence import Evidence
from qwen3_reranker.doctor.examination import Examination
from qwen3_reranker.doctor.findings import Finding, Report, problem
from qwen3_reranker.doctor.golden import compare, golden_of, no_golden
from qwen3_reranker.doctor.score_patterns import judge
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.errors import InputError, RerankerError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.probe import PROBES
from qwen3_reranker.options import document_options, resolve_options
from qwen3_reranker.redaction import conceal
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection.candidates import resolve_dialect
from qwen3_reranker.remote.options import ConnectionOptions
from qwen3_reranker.remote.tokenizers import load_tokenizer
from qwen3_reranker.remote.transport import Transport
from qwen3_reranker.reranker import Reranker

__all__ = ["adiagnose", "diagnose"]

_PASSWORD = re.compile(r"(?<=//).*@", re.DOTALL)


@document_options(ConnectionOptions)
def diagnose(
    target: str | Path | None = None,
    *,
    model: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    engine_python: str | None = None,
    on_progress: Callable[[str], object] = lambda _: None,
    **server: Unpack[ConnectionOptions],
) -> Report:
    """
    Diagnose a server, a model or this environment, and say what to do about each problem.

    Args:
        target: The URL of a server; a model (a folder, a Hugging Face name or "demo"); None for
            this environment alone.
        model: The model's name on the server; None for the one that the server lists.
        engine_args: Arguments of the embedded engine, for a model.
        engine_python: The path of the Python interpreter whose vLLM runs a model; see `Reranker`.
        on_progress: Called before each check with its name, not in the caller's thread.
        **server: The options for a server, see `ConnectionOptions`.

    A `dialect` that is given is the only one examined. `timeout` applies to each request.

    Returns:
        A report with the findings. A server that cannot be reached and a model that cannot be
        loaded are findings too.

    Raises:
        InputError: An argument is not valid. An invalid target is a finding instead.
        TypeError: An argument has an unknown name.

    Example:
        >>> from qwen3_reranker.doctor import diagnose
        >>> report = diagnose("http://localhost:8000")
        >>> report.healthy, report.codes
        (True, frozenset())
    """
    # Concealed, so that no later traceback shows a key.
    concealed = conceal(server)
    del server
    return event_loop.run(
        adiagnose(
            target,
            model=model,
            engine_args=engine_args,
            engine_python=engine_python,
            on_progress=on_progress,
            **concealed,
        )
    )


@document_options(ConnectionOptions)
async def adiagnose(
    target: str | Path | None = None,
    *,
    model: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    engine_python: str | None = None,
    on_progress: Callable[[str], object] = lambda _: None,
    **server: Unpack[ConnectionOptions],
) -> Report:
    """
    Async version of `diagnose()`: same arguments, return value and errors.

    Canceling it stops the engine, or closes the connections, that it uses.

    Args:
        target: The URL of a server; a model (a folder, a Hugging Face name or "demo"); None for
            this environment alone.
        model: The model's name on the server; None for the one that the server lists.
        engine_args: Arguments of the embedded engine, for a model.
        engine_python: The path of the Python interpreter whose vLLM runs a model; see `Reranker`.
        on_progress: Called before each check with its name, in the caller's event loop.
        **server: The options for a server, see `ConnectionOptions`.

    A `dialect` that is given is the only one examined. `timeout` applies to each request.

    Returns:
        A report with the findings. A server that cannot be reached and a model that cannot be
        loaded are findings too.

    Raises:
        InputError: An argument is not valid. An invalid target is a finding instead.
        TypeError: An argument has an unknown name.
    """
    options = resolve_options(conceal(server), ConnectionOptions)
    del server
    dialect, tokenizer = resolve_dialect(options["dialect"]), options["tokenizer"]
    target = str(target) if isinstance(target, Path) else target
    is_server = target is not None and _is_url(target)
    on_progress("this environment")
    findings = await asyncio.to_thread(
        check_environment, engine=target is not None and not is_server, engine_python=engine_python
    )
    if target is not None and not is_server:
        findings += await _check_model(target, engine_args, engine_python, on_progress)
    elif target is not None:
        try:
            address = Address.parse(target)
        except InputError as error:
            findings.append(problem("server", "address", "bad-address", str(error)))
            return Report(_PASSWORD.sub("***@", target), tuple(findings))
        if tokenizer is not None:
            tokenizer = await asyncio.to_thread(load_tokenizer, tokenizer)
        transport = Transport(
            headers=options["headers"], verify=options["verify"], proxy=options["proxy"]
        )
        try:
            client = DiagnosticClient(
                address,
                transport,
                api_key=options["api_key"],
                model=model,
                tokenizer=tokenizer,
                timeout=options["timeout"],
            )
            examined = await Examination(client, dialect, options["template"], on_progress).run()
        finally:
            await transport.aclose()
        findings += examined
    return Report(target, tuple(findings))


async def _check_model(
    model: str,
    engine_args: Mapping[str, Any] | None,
    engine_python: str | None,
    on_progress: Callable[[str], object],
) -> list[Finding]:
    on_progress(f"{model}: files")
    findings, checkpoint = await asyncio.to_thread(check_model, model)
    if checkpoint is None:
        return findings
    try:
        find_engine_python(engine_python)
    except RerankerError as error:
        return [*findings, Finding("scores", "order", "unknown", f"not scored: {error}")]
    on_progress(f"{model}: starting an embedded engine, which can take minutes")
    return findings + await _check_engine(model, checkpoint, engine_args, engine_python)


async def _check_engine(
    model: str,
    checkpoint: Checkpoint,
    engine_args: Mapping[str, Any] | None,
    engine_python: str | None,
) -> list[Finding]:
    """Score the probe and the golden pairs in an embedded engine."""
    known = golden_of([model, checkpoint.model])
    try:
        # Without the engine's own check, because its scores are judged and explained here.
        reranker = Reranker(
            model, engine_args=engine_args, engine_python=engine_python, check=False, quiet=True
        )
    except RerankerError as error:
        return [problem("scores", "engine", "engine-failed", str(error))]
    try:
        rows = [await reranker.ascore(query, texts) for query, texts in PROBES]
        golden = [
            await reranker.ascore(pairs.query, pairs.documents)
            for pairs in (known.golden if known else ())
        ]
    except (RerankerError, OSError) as error:
        return [problem("scores", "engine", "engine-failed", str(error))]
    finally:
        await reranker.aclose()
    verdict = judge(Evidence.of_engine(rows))
    return [verdict, compare(known, golden) if known else no_golden(model)]


def _is_url(target: str) -> bool:
    return "://" in target or re.match(r"[\w.-]+:\d+(/|$)", target) is not None
