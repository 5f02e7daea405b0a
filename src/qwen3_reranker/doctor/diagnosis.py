"""
The doctor: what is wrong with an environment, a model or a server, and what to do.

A server is asked as the reranker asks it. Where that fails, every way to ask it is tried, and the
likeliest is examined. What a server answers, or that it does not, is a finding, never an error.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from qwen3_reranker import event_loop
from qwen3_reranker.dialects import Dialect, find
from qwen3_reranker.doctor.checks_environment import check_environment
from qwen3_reranker.doctor.checks_model import check_model
from qwen3_reranker.doctor.diagnostic_client import DiagnosticClient
from qwen3_reranker.doctor.examination import Examination
from qwen3_reranker.doctor.findings import Finding, Report, finding_for_code
from qwen3_reranker.doctor.golden import compare, golden_of, no_golden
from qwen3_reranker.doctor.score_patterns import judge
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.errors import InputError, RerankerError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.redaction import Secret, conceal_headers
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection import Template
from qwen3_reranker.remote.request_encoder import load_tokenizer
from qwen3_reranker.remote.transport import Transport
from qwen3_reranker.reranker import Reranker

__all__ = ["adiagnose", "diagnose"]


def diagnose(
    target: str | None = None,
    *,
    api_key: str | Secret | None = None,
    dialect: str | Dialect = "auto",
    template: Template = "auto",
    model: str | None = None,
    tokenizer: str | None = None,
    timeout: float = 60.0,
    headers: Mapping[str, str | Secret] | None = None,
    verify: bool | str | ssl.SSLContext = True,
    proxy: str | Secret | None = None,
    engine_args: Mapping[str, Any] | None = None,
    engine_python: str | None = None,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Report:
    """
    Find out what is wrong with a target, and what to do.

    Args:
        target: A server's URL; a model (a folder, a hub name, "demo"); None for this environment
            alone.
        api_key: For a server, as all that follow; see `ServerOptions`.
        dialect: See there; what is given is examined alone.
        template: See there.
        model: The name that the server knows the model by; None takes what it lists.
        tokenizer: See `ServerOptions`.
        timeout: The most seconds for each request.
        headers: See `ServerOptions`.
        verify: See there.
        proxy: See there.
        engine_args: For a model: arguments of the embedded engine.
        engine_python: The Python interpreter whose vLLM is used; see `Reranker`.
        on_progress: Called before each check with what it looks at. Not in the caller's thread.

    Returns:
        The findings. A server that cannot be reached or a model that cannot be loaded is one too.

    Raises:
        InputError: An argument cannot be used; not the target, which a finding tells of.
    """
    # So that no traceback of what follows shows them.
    api_key, proxy, headers = Secret.of(api_key), Secret.of(proxy), conceal_headers(headers)
    return event_loop.run(
        adiagnose(
            target,
            api_key=api_key,
            dialect=dialect,
            template=template,
            model=model,
            tokenizer=tokenizer,
            timeout=timeout,
            headers=headers,
            verify=verify,
            proxy=proxy,
            engine_args=engine_args,
            engine_python=engine_python,
            on_progress=on_progress,
        )
    )


async def adiagnose(
    target: str | None = None,
    *,
    api_key: str | Secret | None = None,
    dialect: str | Dialect = "auto",
    template: Template = "auto",
    model: str | None = None,
    tokenizer: str | None = None,
    timeout: float = 60.0,  # noqa: ASYNC109  # of each request
    headers: Mapping[str, str | Secret] | None = None,
    verify: bool | str | ssl.SSLContext = True,
    proxy: str | Secret | None = None,
    engine_args: Mapping[str, Any] | None = None,
    engine_python: str | None = None,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Report:
    """Async version of `diagnose()`: same arguments, report and errors; can be cancelled."""
    api_key, proxy = Secret.of(api_key), Secret.of(proxy)
    concealed = conceal_headers(headers)
    del headers
    if template not in ("auto", "client", "server"):
        raise InputError(f"template={template!r}: give 'auto', 'client' or 'server'")
    chosen = dialect if isinstance(dialect, Dialect) else None
    if isinstance(dialect, str) and dialect != "auto":
        chosen = find(dialect)
    url = target is not None and _is_url(target)
    on_progress("this environment")
    findings = await asyncio.to_thread(
        check_environment, engine=target is not None and not url, engine_python=engine_python
    )
    if target is not None and not url:
        findings += await _model(target, engine_args, engine_python, on_progress)
    elif target is not None:
        try:
            address = Address.parse(target)
        except InputError as error:
            findings.append(finding_for_code("server", "address", "bad-address", str(error)))
            return Report(_PASSWORD.sub("***@", target), tuple(findings))
        transport = Transport(headers=concealed, verify=verify, proxy=proxy)
        server = DiagnosticClient(
            address,
            transport,
            api_key=api_key,
            model=model,
            tokenizer=None if tokenizer is None else load_tokenizer(tokenizer),
            timeout=timeout,
        )
        try:
            found = await Examination(server, chosen, template, on_progress).run()
        finally:
            await transport.aclose()
        findings += found
    return Report(target, tuple(findings))


async def _model(
    model: str,
    engine_args: Mapping[str, Any] | None,
    engine_python: str | None,
    on_progress: Callable[[str], object],
) -> list[Finding]:
    on_progress(f"{model}: its files")
    findings, checkpoint = await asyncio.to_thread(check_model, model)
    if checkpoint is None:
        return findings
    try:
        find_engine_python(engine_python)
    except RerankerError as error:
        return [*findings, Finding("scores", "order", "unknown", f"not scored: {error}")]
    on_progress(f"{model}: starting an embedded engine, which can take minutes")
    return findings + await _engine(model, checkpoint, engine_args, engine_python)


async def _engine(
    model: str,
    checkpoint: Checkpoint,
    engine_args: Mapping[str, Any] | None,
    engine_python: str | None,
) -> list[Finding]:
    """Score the probe and the golden pairs with an embedded engine."""
    known = golden_of([model, checkpoint.model])
    try:
        # Not checked by the engine: its scores are judged, and explained, here.
        reranker = Reranker(
            model, engine_args=engine_args, engine_python=engine_python, check=False, quiet=True
        )
    except RerankerError as error:
        return [finding_for_code("scores", "engine", "engine-failed", str(error))]
    try:
        rows = [await reranker.ascore(query, texts) for query, texts in PROBES]
        golden = [
            await reranker.ascore(one.query, one.documents) for one in (known[1] if known else ())
        ]
    except (RerankerError, OSError) as error:
        return [finding_for_code("scores", "engine", "engine-failed", str(error))]
    finally:
        await reranker.aclose()
    outcome = Outcome.read(rows, None, logits=False)
    return [*judge(outcome), compare(*known, golden) if known else no_golden(model)]


def _is_url(target: str) -> bool:
    return "://" in target or re.match(r"[\w.-]+:\d+(/|$)", target) is not None


_PASSWORD = re.compile(r"(?<=//).*@", re.DOTALL)
