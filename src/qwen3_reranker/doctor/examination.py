"""Examine a server: detect its route, then check its scores and its behavior."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from qwen3_reranker.dialects import Dialect, TemplateBy, find
from qwen3_reranker.doctor import checks_server
from qwen3_reranker.doctor.checks_scores import check_scores, check_template
from qwen3_reranker.doctor.checks_server import Behavior, check_determinism
from qwen3_reranker.doctor.diagnostic_client import DiagnosticClient, Probed
from qwen3_reranker.doctor.evidence import Evidence, is_embedding
from qwen3_reranker.doctor.findings import SHOWN, Finding, Status, ok, problem
from qwen3_reranker.doctor.golden import compare, golden_of, no_golden
from qwen3_reranker.doctor.prompt_variants import VARIANTS, Rows, distance
from qwen3_reranker.errors import RerankerError
from qwen3_reranker.model.head import folder_lacks_bias
from qwen3_reranker.model.layout import SCORE_BIAS
from qwen3_reranker.model.probability import sigmoid
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.problems import PROBLEMS
from qwen3_reranker.remote.detection import Route, Template
from qwen3_reranker.remote.detection.identification import needs_metadata
from qwen3_reranker.remote.responses import RetryableError, is_key_refusal

__all__ = ["Examination"]

# The dialect that other programs send plain texts with, by the kind of the server.
_PLAIN_TEXT_DIALECTS = {"vLLM": "vllm-score", "SGLang": "sglang-rerank"}
# A list instead of a number: an embedding.
_VECTOR = re.compile(r"float_type.*input_type=list|without --is-embedding")
# The errors of a LiteLLM proxy without a database for a missing and for a wrong key (1.106.2). No
# error of the model behind it matches.
_NO_KEY = re.compile(r"500: Internal Server Error|no_db_connection|No connected db")
# Scores that differ by less, in log-odds, are those of the same prompt.
_SAME = 1e-3


_BIAS = PROBLEMS["random-head-bias"]


class Examination:
    """
    The examination of one server; `run` returns the findings.

    Args:
        client: The client for the server.
        dialect: The only dialect to examine; None to detect it.
        template: Who writes the template; "auto" to detect it.
        on_progress: Called before each check with its name.
    """

    def __init__(
        self,
        client: DiagnosticClient,
        dialect: Dialect | None,
        template: Template,
        on_progress: Callable[[str], object],
    ) -> None:
        self._client = client
        self._dialect = dialect
        self._template = template
        self._on_progress = on_progress
        self._findings: list[Finding] = []

    async def run(self) -> list[Finding]:
        """Run all checks; a server that fails ends the examination with a finding."""
        try:
            await self._read_metadata()
            probed = await self._find_route()
            if probed is not None:
                await self._check(probed)
        except RetryableError as error:
            self._add(problem("server", "reachable", "unreachable", str(error)))
        except RerankerError as error:
            self._add(self._rejection(error))
        return self._findings

    def _add(self, *findings: Finding) -> None:
        self._findings += findings

    def _show(self, check: str) -> None:
        self._on_progress(f"{self._client.address.url}: {check}")

    async def _read_metadata(self) -> None:
        """Read what kind of server it is, if it says so or has to."""
        self._show("kind")
        client, started = self._client, perf_counter()
        try:
            await client.read_metadata(self._dialect)
        except RetryableError as error:
            if needs_metadata(client.address, self._dialect):
                raise
            self._add(Finding("server", "kind", "unknown", str(error)[:SHOWN]))
            return
        if hosted := client.hosted():
            self._add(ok("server", "kind", f"the hosted service {hosted[0].kind}"))
            return
        seconds = perf_counter() - started
        self._add(ok("server", "reachable", f"responds within {1000 * seconds:.0f} ms"))
        status: Status = "unknown" if client.server_info.kind is None else "ok"
        self._add(Finding("server", "kind", status, str(client.server_info)))

    async def _find_route(self) -> Probed | None:
        """Return the reranker's own route, or the likeliest of those that answer."""
        self._show("dialect and template")
        client = self._client
        reason: RerankerError | None = None
        if self._dialect is None or self._template == "auto":
            try:
                route = await client.detect(self._dialect, self._template)
                return self._describe(await client.probe(route))
            except RetryableError:
                raise
            except RerankerError as error:
                reason = error
        modes: Sequence[TemplateBy] = (
            ("client", "server") if self._template == "auto" else (self._template,)
        )
        candidates = [self._dialect] if self._dialect else client.candidates()
        probes, failures = await client.probe_all(candidates, modes)
        if probes:
            return self._describe(_likeliest(probes))
        if is_embedding(client.info) or any(_VECTOR.search(str(error)) for _, error in failures):
            message = "; ".join(f"{name}: {error}"[:200] for name, error in failures[:2])
            self._add(problem("scores", "head", "embedding-component", message))
            return None
        if reason is None:
            reason = failures[0][1] if failures else RerankerError("no dialect fits the URL")
        if isinstance(reason, RetryableError) and reason.transient:
            raise reason
        self._add(self._rejection(reason))
        return None

    def _rejection(self, error: RerankerError) -> Finding:
        litellm = self._client.server_info.kind == "LiteLLM"
        if is_key_refusal(error) or (litellm and _NO_KEY.search(str(error))):
            return problem("server", "key", "key-refused", str(error))
        return problem("server", "endpoint", "nothing-scores", str(error))

    def _describe(self, probed: Probed) -> Probed:
        """Add the findings about a route: its endpoint, its model, its tokenizer, its warnings."""
        route = probed.route
        info = route.server_info
        self._add(ok("server", "endpoint", f"{route.dialect.name} at {route.path}"))
        limit = f"accepts {info.max_length} tokens" if info.max_length else "its limit is unknown"
        known: Status = "ok" if route.model is not None or info.models else "unknown"
        self._add(Finding("server", "model", known, f"{route.model or 'unknown name'}, {limit}"))
        self._add(_tokenizer(route))
        for warning in route.warnings:
            if info.refusal and info.refusal in warning:
                self._add(problem("server", "key", "key-refused", warning, status="warning"))
            else:
                self._add(Finding("server", "models", "warning", warning))
        return probed

    async def _check(self, probed: Probed) -> None:
        client = self._client
        raw = None if is_embedding(client.info) else await client.raw()
        behavior = Behavior(client, probed, raw)
        self._show("determinism")
        determinism, noise = await check_determinism(behavior)
        self._add(determinism)
        self._show("template")
        scores = check_scores(await self._gather(probed, raw, noise))
        self._add(*[finding for finding in scores if finding.check == "template"])
        self._show("other endpoints")
        self._add(*await self._check_other_endpoint(probed, raw, noise))
        for name, check in checks_server.CHECKS:
            self._show(name)
            try:
                self._add(await check(behavior))
            except RerankerError as error:
                self._add(Finding("server", name, "unknown", str(error)[:SHOWN]))
        self._add(*[finding for finding in scores if finding.check != "template"])
        self._show("golden pairs")
        if not any(finding.status == "problem" for finding in scores):
            self._add(await self._check_golden_pairs(probed))
        if probed.route.dialect.name == "sglang-classify":
            self._add(self._check_bias())

    async def _gather(self, probed: Probed, raw: Route | None, noise: float) -> Evidence:
        """Gather the evidence about one route, with as few requests as it takes."""
        route, client = probed.route, self._client
        evidence = replace(
            Evidence.of_server(probed, client.info),
            expected_tokens=_expected_tokens(route),
            noise=noise,
        )
        rendered = await client.rendered(route)
        if rendered is not None and rendered.code is not None:
            return replace(evidence, rendered=rendered)
        if raw is not None and raw.dialect.name != route.dialect.name:
            try:
                whole_prompts = {0: await self._score_variant(raw, 0)}
                if distance(probed.outcome.scores, whole_prompts[0]) > max(_SAME, 3 * noise):
                    for index in range(1, len(VARIANTS)):
                        whole_prompts[index] = await self._score_variant(raw, index)
            except RerankerError as error:
                self._add(Finding("server", "complete prompts", "unknown", str(error)[:SHOWN]))
                return evidence
            return replace(evidence, whole_prompts=whole_prompts)
        if raw is None and not probed.outcome.passed:
            other: TemplateBy = "server" if route.template_by == "client" else "client"
            probes, _ = await client.probe_all([route.dialect], [other])
            return replace(evidence, other_side=probes[0].outcome if probes else None)
        return evidence

    async def _score_variant(self, raw: Route, index: int) -> Rows:
        """Return the probabilities of the probe's passages in prompts of one variant."""
        rows = []
        for query, texts in PROBES:
            prompts = [VARIANTS[index].write(query, text) for text in texts]
            rows.append((await self._client.ask_whole(raw, prompts)).values)
        return Outcome.read(rows, None, logits=False).scores

    async def _check_other_endpoint(
        self, probed: Probed, raw: Route | None, noise: float
    ) -> list[Finding]:
        """Check the endpoint of the same server that other programs send plain texts to."""
        name = _PLAIN_TEXT_DIALECTS.get(self._client.server_info.kind or "")
        chosen = self._dialect is not None or self._template != "auto"
        if chosen or raw is None or probed.route.dialect is not raw.dialect or name is None:
            return []
        try:
            route = await self._client.route_for(find(name), "server", root=True)
            other = await self._client.probe(route, root=True)
        except RerankerError:  # it does not exist, or has no template to score with
            return []
        path = other.route.path
        if other.outcome.templated is False:
            message = f"{path} writes no template: other programs must send complete prompts there"
            return [ok("server", "other endpoints", message)]
        finding = check_template(await self._gather(other, raw, noise))
        if finding.status == "problem":
            more = f"This client does not use {path}, but other programs may."
            finding = replace(finding, status="warning", advice=f"{more} {finding.advice}")
        if finding.status == "unknown":
            return []
        return [replace(finding, area="server", check="other endpoints")]

    async def _check_golden_pairs(self, probed: Probed) -> Finding:
        """Compare the scores of the model's golden pairs with those published."""
        route = probed.route
        names = [route.model, *route.server_info.models, *route.server_info.sources]
        known = golden_of([name for name in names if name])
        if known is None:
            return no_golden(route.model)
        try:
            answers = [
                await self._client.ask(route, pairs.query, pairs.documents)
                for pairs in known.golden
            ]
        except RerankerError as error:
            return Finding("scores", "golden pairs", "unknown", str(error))
        rows = [answer.values for answer in answers]
        if probed.outcome.logits:
            rows = [[sigmoid(x) for x in row] for row in rows]
        return compare(known, rows)

    def _check_bias(self) -> Finding:
        """Check whether the checkpoint has the bias that SGLang's head needs."""
        path = self._client.info.get("model_path")
        lacks = folder_lacks_bias(Path(path)) if isinstance(path, str) and path else None
        matches = any(f.check == "golden pairs" and f.status == "ok" for f in self._findings)
        if lacks:
            message = f"{path} has no {SCORE_BIAS}"
            status: Status = "problem"
            if matches:
                message, status = f"{message}, but the scores of this start are right", "warning"
            return problem("scores", "head's bias", "random-head-bias", message, status=status)
        if lacks is None and not matches:
            message = f"the checkpoint cannot be read here: check that it has a {SCORE_BIAS}"
            return Finding("scores", "head's bias", "unknown", f"{message}. {_BIAS.advice}")
        return ok("scores", "head's bias", "no bias that changes the scores")


def _likeliest(probes: Sequence[Probed]) -> Probed:
    """Return the route to examine if none passed: the best of the first dialect that answers."""
    dialect = probes[0].route.dialect
    first = [probed for probed in probes if probed.route.dialect is dialect]
    fitting = [probed for probed in first if _fits(probed)]
    return max(fitting or first, key=lambda probed: probed.outcome.margin)


def _fits(probed: Probed) -> bool:
    """Return whether the tokens counted agree with who is supposed to write the template."""
    if probed.route.template_by == "server":
        return probed.outcome.templated is True
    return probed.outcome.tokens is not None and not probed.outcome.doubled


def _expected_tokens(route: Route) -> int | None:
    builder = route.encoder.builder
    if builder is None:
        return None
    prompts = (prompt for query, texts in PROBES for prompt in builder.encode(query, texts))
    return sum(len(prompt.ids) for prompt in prompts)


def _tokenizer(route: Route) -> Finding:
    if route.encoder.builder is not None:
        message = "found here; it tokenizes text as the server does"
        return ok("environment", "tokenizer", message)
    if route.encoder.can_truncate:
        message = "not found here; the server counts tokens instead"
        return ok("environment", "tokenizer", message)
    message = "not found here, and the server cannot count tokens: long documents are not cut"
    return problem("environment", "tokenizer", "tokenizer-missing", message, status="warning")
