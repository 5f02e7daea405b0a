"""One server examined: how it is asked, then what its scores show, then how it works."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from qwen3_reranker.dialects import Dialect, TemplateBy, find
from qwen3_reranker.doctor.checks_model import lacks_bias
from qwen3_reranker.doctor.checks_scores import Evidence, examine, is_embedding, template
from qwen3_reranker.doctor.checks_server import Workings, tried
from qwen3_reranker.doctor.diagnostic_client import DiagnosticClient, Probed
from qwen3_reranker.doctor.findings import Finding, Status, finding_for_code
from qwen3_reranker.doctor.golden import compare, golden_of, no_golden
from qwen3_reranker.doctor.prompt_variants import VARIANTS, Rows, distance
from qwen3_reranker.errors import RerankerError, ServerError
from qwen3_reranker.model.probe import PROBES, Outcome, sigmoid
from qwen3_reranker.remote.detection import Route, Template
from qwen3_reranker.remote.transport import RetryableError

__all__ = ["Examination"]


class Examination:
    """
    One server, examined; `run` returns the findings.

    Args:
        server: The server.
        dialect: The only dialect to examine; None detects it.
        template: Who writes the template; "auto" detects it.
        on_progress: Called before each check with what it looks at.
    """

    def __init__(
        self,
        server: DiagnosticClient,
        dialect: Dialect | None,
        template: Template,
        on_progress: Callable[[str], object],
    ) -> None:
        self._server = server
        self._dialect = dialect
        self._template = template
        self._on_progress = on_progress
        self._found: list[Finding] = []

    async def run(self) -> list[Finding]:
        try:
            if await self._reach():
                probed = await self._choose()
                if probed is not None:
                    await self._examine(probed)
        except RetryableError as error:
            self._add(finding_for_code("server", "reachable", "unreachable", str(error)))
        except RerankerError as error:
            self._add(self._refusal(error))
        return self._found

    def _add(self, *findings: Finding) -> None:
        self._found += findings

    def _show(self, check: str) -> None:
        self._on_progress(f"{self._server.address.url}: {check}")

    async def _reach(self) -> bool:
        self._show("what it is")
        server, started = self._server, perf_counter()
        try:
            await server.look()
        except RetryableError as error:
            self._add(finding_for_code("server", "reachable", "unreachable", str(error)))
            return False
        if server.hosted():
            name = server.hosted()[0].kind
            self._add(_ok("kind", f"the hosted service {name}"))
            return True
        server_info, seconds = server.server_info, perf_counter() - started
        self._add(_ok("reachable", f"answers in {1000 * seconds:.0f} ms"))
        status: Status = "unknown" if server_info.kind is None else "ok"
        self._add(Finding("server", "kind", status, str(server_info)))
        return True

    async def _choose(self) -> Probed | None:
        """Return the way to examine: the reranker's own, or the likeliest of those that answer."""
        self._show("dialect and template")
        server = self._server
        reason: RerankerError | None = None
        if self._dialect is None or self._template == "auto":
            try:
                route = await server.detect(self._dialect, self._template)
                return self._settled(await server.probe(route))
            except RetryableError:
                raise
            except RerankerError as error:
                reason = error
        template_modes: Sequence[TemplateBy] = (
            ("client", "server") if self._template == "auto" else (self._template,)
        )
        candidates = [self._dialect] if self._dialect else server.candidates()
        ways, failed = await server.probe_all(candidates, template_modes)
        if ways:
            return self._settled(_likeliest(ways))
        if is_embedding(server.info) or any(_VECTOR.search(str(error)) for _, error in failed):
            found = "; ".join(f"{name}: {error}"[:200] for name, error in failed[:2])
            self._add(finding_for_code("scores", "head", "embedding-component", found))
            return None
        if reason is None:
            reason = failed[0][1] if failed else RerankerError("no dialect fits the URL")
        self._add(self._refusal(reason))
        return None

    def _refusal(self, error: RerankerError) -> Finding:
        refused = isinstance(error, ServerError) and error.status in (401, 403)
        # Run with LiteLLM 1.106.2: no error of the model behind it reads like these.
        litellm = self._server.server_info.kind == "LiteLLM"
        if refused or (litellm and _NO_KEY.search(str(error))):
            return finding_for_code("server", "key", "key-refused", str(error))
        return finding_for_code("server", "endpoint", "nothing-scores", str(error))

    def _settled(self, probed: Probed) -> Probed:
        route = probed.route
        self._add(_ok("endpoint", f"{route.dialect.name} at {route.path}"))
        known = route.model is not None or route.server_info.models
        length = route.server_info.max_length
        self._add(
            Finding(
                "server",
                "model",
                "ok" if known else "unknown",
                f"{route.model or 'its name is not known'}, "
                + (f"takes {length} tokens" if length else "does not say how many tokens it takes"),
            )
        )
        self._add(_tokenizer(route))
        for warning in route.warnings:
            if route.server_info.refusal and route.server_info.refusal in warning:
                self._add(
                    finding_for_code("server", "key", "key-refused", warning, status="warning")
                )
            else:
                self._add(Finding("server", "models", "warning", warning))
        return probed

    async def _examine(self, probed: Probed) -> None:
        server, route = self._server, probed.route
        raw = None if is_embedding(server.info) else await server.raw()
        workings = Workings(server, probed, raw)
        self._show("determinism")
        try:
            steady, noise = await workings.repeats()
        except RerankerError as error:
            steady, noise = Finding("server", "determinism", "unknown", str(error)), 0.0
        self._show("template")
        scores = examine(await self._gather(probed, raw, noise))
        self._add(*[f for f in scores if f.check == "template"])
        self._show("other endpoints")
        self._add(*await self._others(probed, raw, noise))
        await self._try("instruction", workings.instruction)
        await self._try("control tokens", workings.control_tokens)
        await self._try("truncation", workings.truncation)
        self._add(steady)
        await self._try("latency", workings.latency)
        self._add(*[f for f in scores if f.check != "template"])
        self._show("golden pairs")
        broken = any(f.status == "problem" for f in scores)
        if not broken:
            await self._golden(probed)
        if route.dialect.name == "sglang-classify":
            self._bias()

    async def _try(self, check: str, finding: Callable[[], Awaitable[Finding]]) -> None:
        self._show(check)
        self._add(await tried(check, finding()))

    async def _gather(self, probed: Probed, raw: Route | None, noise: float) -> Evidence:
        """Return the evidence about one way, asking no more than it takes."""
        route = probed.route
        evidence = Evidence(probed, self._server.info, expected=_expected(route), noise=noise)
        written = await self._server.rendered(route)
        if written is not None and written.code is not None:
            return replace(evidence, written=written)
        if raw is not None and raw.dialect.name != route.dialect.name:
            right = await self._whole(raw, 0)
            variants = {0: right}
            if distance(probed.outcome.scores, right) > max(_SAME, 3 * noise):
                for place in range(1, len(VARIANTS)):
                    variants[place] = await self._whole(raw, place)
            return replace(evidence, variants=variants)
        if raw is None and not probed.outcome.passed:
            other: TemplateBy = "server" if route.template_by == "client" else "client"
            ways, _ = await self._server.probe_all([route.dialect], [other])
            return replace(evidence, other=ways[0].outcome if ways else None)
        return evidence

    async def _whole(self, raw: Route, place: int) -> Rows:
        """Return how a variant's prompts score."""
        rows = []
        for query, texts in PROBES:
            prompts = [VARIANTS[place].write(query, text) for text in texts]
            rows.append((await self._server.ask_whole(raw, prompts)).values)
        return Outcome.read(rows, None, logits=False).scores

    async def _others(self, probed: Probed, raw: Route | None, noise: float) -> list[Finding]:
        """Look at the endpoint of the same server that other programs send plain texts to."""
        name = _TEXTS.get(self._server.server_info.kind or "")
        chosen = self._dialect is not None or self._template != "auto"
        if chosen or raw is None or probed.route.dialect is not raw.dialect or name is None:
            return []
        try:
            way = await self._server.route_for(find(name), "server", root=True)
            other = await self._server.probe(way, root=True)
        except RerankerError:  # not there, or no template that it would score with
            return []
        if other.outcome.templated is False:
            found = (
                f"{other.route.path} writes none: other programs must send written prompts there"
            )
            return [_ok("other endpoints", found)]
        finding = template(await self._gather(other, raw, noise))
        if finding.status == "problem":
            more = f"This client does not use {other.route.path}; other programs may."
            finding = replace(finding, status="warning", advice=f"{more} {finding.advice}")
        if finding.status == "unknown":
            return []
        return [replace(finding, area="server", check="other endpoints")]

    async def _golden(self, probed: Probed) -> None:
        route = probed.route
        names = [route.model, *route.server_info.models, *route.server_info.sources]
        known = golden_of([name for name in names if name])
        if known is None:
            self._add(no_golden(route.model))
            return
        rows = []
        try:
            for one in known[1]:
                answer = await self._server.ask(route, one.query, one.documents)
                rows.append(
                    [sigmoid(x) for x in answer.values] if probed.outcome.logits else answer.values
                )
        except RerankerError as error:
            self._add(Finding("scores", "golden pairs", "unknown", str(error)))
            return
        self._add(compare(*known, rows))

    def _bias(self) -> None:
        """Look whether SGLang's head has a bias in the checkpoint, where that lies here."""
        folder = Path(str(self._server.info.get("model_path", "")))
        lacks = lacks_bias(folder) if folder.is_dir() else None
        proven = any(f.check == "golden pairs" and f.status == "ok" for f in self._found)
        if lacks:
            self._add(
                finding_for_code(
                    "scores",
                    "head's bias",
                    "random-head-bias",
                    f"{folder} has no score.bias"
                    + (", though at this launch the scores are right" if proven else ""),
                    status="warning" if proven else "problem",
                )
            )
        elif lacks is None and not proven:
            self._add(
                Finding(
                    "scores",
                    "head's bias",
                    "unknown",
                    "the checkpoint is not readable here: look for score.bias in it, for without "
                    "one SGLang's is random",
                )
            )
        else:
            self._add(Finding("scores", "head's bias", "ok", "none that moves the scores"))


def _likeliest(ways: Sequence[Probed]) -> Probed:
    """Return the way to examine where none passed: of the first dialect that answers."""
    first = [way for way in ways if way.route.dialect is ways[0].route.dialect]
    told = [way for way in first if _fits(way)]
    return max(told or first, key=lambda way: way.outcome.margin)


def _fits(way: Probed) -> bool:
    """Return whether the tokens counted fit who is said to write the template."""
    if way.route.template_by == "server":
        return way.outcome.templated is True
    return way.outcome.tokens is not None and not way.outcome.doubled


def _expected(route: Route) -> int | None:
    builder = route.encoder.builder
    if builder is None:
        return None
    return sum(len(one.ids) for query, texts in PROBES for one in builder.encode(query, texts))


def _tokenizer(route: Route) -> Finding:
    if route.encoder.builder is not None:
        return Finding("environment", "tokenizer", "ok", "found, and reads as the server's does")
    if route.encoder.can_cut:
        return Finding(
            "environment", "tokenizer", "ok", "not found here; the server is asked to count"
        )
    return finding_for_code(
        "environment",
        "tokenizer",
        "tokenizer-missing",
        "not found here, and the server has none to ask: long documents are not cut",
        status="warning",
    )


def _ok(check: str, found: str) -> Finding:
    return Finding("server", check, "ok", found)


# Where plain texts go.
_TEXTS = {"vLLM": "vllm-score", "SGLang": "sglang-rerank"}
# A list where a number belongs: an embedding.
_VECTOR = re.compile(r"float_type.*input_type=list|without --is-embedding")
# A LiteLLM without a database, asked without a key and with a wrong one.
_NO_KEY = re.compile(r"500: Internal Server Error|no_db_connection|No connected db")
_SAME = 1e-3
