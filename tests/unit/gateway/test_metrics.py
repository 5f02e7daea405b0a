"""What Prometheus reads from a gateway."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from qwen3_reranker import EngineError, Reranker, ServerUnavailableError, __version__
from qwen3_reranker.gateway import AliasConfig, GatewayConfig, Limits, create_app, readiness
from qwen3_reranker.serve import kubernetes, launch
from qwen3_reranker.usage import EngineStats

from support.gateway import RelevanceScorer, client_of, gateway
from support.scripted_server import DOCUMENTS, QUERY, ScriptedServer

BODY = {"query": QUERY, "documents": DOCUMENTS}
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


async def samples(client: httpx.AsyncClient) -> dict[str, Any]:
    """Return the values of all samples by name and labels, written as in Prometheus."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        sample.name
        + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_what_a_request_cost_is_counted_by_api_and_alias() -> None:
    config = GatewayConfig(aliases={"faq": AliasConfig(instruction="Find the answer")})
    async with gateway(RelevanceScorer(), config) as client:
        for _ in range(2):
            await client.post("/v1/rerank", json=BODY | {"model": "faq"})
        await client.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS})
        found = await samples(client)
    assert found["qwen3_reranker_requests_total api=rerank model=faq status=200"] == 2
    assert found["qwen3_reranker_requests_total api=tei model=relevance status=200"] == 1
    assert found["qwen3_reranker_documents_total model=faq"] == 2 * len(DOCUMENTS)
    letters = sum(map(len, DOCUMENTS))
    assert found["qwen3_reranker_tokens_total model=faq"] == 2 * letters
    for name in ("request_duration_seconds_count api=rerank", "scoring_duration_seconds_count"):
        assert found[f"qwen3_reranker_{name} model=faq"] == 2
    assert found["qwen3_reranker_queue_duration_seconds_count"] == 3
    whole = found["qwen3_reranker_request_duration_seconds_sum api=rerank model=faq"]
    assert whole >= found["qwen3_reranker_scoring_duration_seconds_sum model=faq"] > 0
    assert found["qwen3_reranker_ready"] == 1
    assert any(f"version={__version__}" in name for name in found)
    assert found["process_resident_memory_bytes"] > 0


class Cacheable(RelevanceScorer):
    async def fingerprint(self) -> str:
        return "1"


async def test_cut_and_cached_documents_are_counted() -> None:
    body = {"query": QUERY, "documents": ["x" * 20_000, *DOCUMENTS]}
    with Reranker(scorer=Cacheable(), cache={}) as reranker:
        async with client_of(create_app(reranker)) as client:
            for _ in range(2):
                await client.post("/v1/rerank", json=body)
            found = await samples(client)
    # What was cut is known when it is scored, and remembered with its score.
    assert found["qwen3_reranker_truncated_documents_total model=relevance"] == 2
    assert found["qwen3_reranker_cached_scores_total model=relevance"] == len(set(DOCUMENTS)) + 1


async def test_nothing_that_clients_choose_becomes_a_label() -> None:
    config = GatewayConfig(aliases={"faq": AliasConfig()}, keys=("k",))
    async with gateway(RelevanceScorer(), config) as client:
        key = {"Authorization": "Bearer k"}
        for word in ("zebra", "zebra-2"):
            await client.get(f"/{word}", headers=key)
            await client.request(word.upper(), "/v1/rerank", headers=key)
            await client.post("/v1/rerank", json=BODY | {"model": word}, headers=key)
            await client.post("/v1/rerank", json=BODY, headers={"Authorization": word})
            await client.post("/v1/rerank", content=word, headers={"X-Request-Id": word, **key})
        after = await samples(client)
    assert not [name for name in after if "zebra" in name.lower()]
    statuses = {
        name: value for name, value in after.items() if name.startswith("qwen3_reranker_requests_t")
    }
    assert statuses == {
        "qwen3_reranker_requests_total api=other model= status=404": 2,
        "qwen3_reranker_requests_total api=other model= status=405": 2,
        "qwen3_reranker_requests_total api=other model= status=401": 2,
        "qwen3_reranker_requests_total api=rerank model= status=404": 2,
        "qwen3_reranker_requests_total api=rerank model= status=400": 2,
    }


async def test_requests_in_progress_and_in_the_queue_are_told_apart() -> None:
    class Held(RelevanceScorer):
        async def score(self, *arguments: Any) -> Any:
            loop.call_soon_threadsafe(started.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(release.wait(), loop))
            return await super().score(*arguments)

    loop = asyncio.get_running_loop()
    started, release = asyncio.Event(), asyncio.Event()
    limits = Limits(max_active=1, max_queue=2)
    async with gateway(Held(), GatewayConfig(limits=limits)) as client:
        calls = [asyncio.create_task(client.post("/rerank", json=BODY)) for _ in range(4)]
        await started.wait()
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert [call.result().status_code for call in done] == [503]
        found = await samples(client)
        assert found["qwen3_reranker_requests_in_progress"] == 1
        assert found["qwen3_reranker_requests_queued"] == 2
        release.set()
        await asyncio.gather(*calls)
        found = await samples(client)
    assert found["qwen3_reranker_requests_in_progress"] == 0
    assert found["qwen3_reranker_requests_queued"] == 0
    assert found["qwen3_reranker_requests_total api=rerank model= status=503"] == 1


async def test_a_request_whose_body_is_arriving_is_not_in_the_queue() -> None:
    arriving, rest = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        whole = json.dumps(BODY).encode()
        yield whole[:10]
        arriving.set()
        await rest.wait()
        yield whole[10:]

    async with gateway(RelevanceScorer()) as client:
        call = asyncio.create_task(client.post("/rerank", content=body()))
        await arriving.wait()
        found = await samples(client)
        rest.set()
        assert (await call).status_code == 200
    assert found["qwen3_reranker_requests_queued"] == 0
    assert found["qwen3_reranker_requests_in_progress"] == 0


async def test_readiness_is_measured_while_nobody_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "_FRESH", 0.0)
    scorer = RelevanceScorer()
    async with gateway(scorer) as client:

        async def measured(value: int) -> None:
            async with asyncio.timeout(10):
                while (await samples(client))["qwen3_reranker_ready"] != value:
                    await asyncio.sleep(0.005)

        await measured(1)
        scorer.error = EngineError("it died")
        await measured(0)
        assert (await client.get("/ready")).status_code == 503
        scorer.error = None
        await measured(1)


async def test_the_servers_behind_it_are_described_without_their_keys() -> None:
    with ScriptedServer() as bad:
        pass  # nothing listens there any more
    with ScriptedServer() as good:
        options: Any = {"tokenizer": "demo", "api_key": "secret"}
        with Reranker(base_url=[bad.url, good.url], **options) as reranker:
            async with client_of(create_app(reranker)) as client:
                for _ in range(3):
                    assert (await client.post("/rerank", json=BODY)).status_code == 200
                text = (await client.get("/metrics")).text
                found = await samples(client)
    assert "secret" not in text
    assert found[f"qwen3_reranker_upstream_up url={good.url}"] == 1
    assert found[f"qwen3_reranker_upstream_up url={bad.url}"] == 0
    assert found[f"qwen3_reranker_upstream_requests_total url={good.url}"] == 3
    # The alert about a server that is down compares these two.
    assert found[f"qwen3_reranker_upstream_failures_total url={bad.url}"] > 0
    assert found[f"qwen3_reranker_upstream_requests_total url={bad.url}"] == 0


async def test_the_engines_are_described_whichever_reranker_used_them() -> None:
    class Engines(RelevanceScorer):
        def engine_stats(self) -> dict[str, EngineStats]:
            return {"cuda:0": EngineStats(requests=4, tokens=9, failures=2, restarts=1)}

    def make(**_: Any) -> Reranker:
        return Reranker(scorer=Engines())

    config = GatewayConfig(
        aliases={"long": AliasConfig(long_documents={"long_documents": "passages"})}
    )
    async with client_of(create_app(make, config)) as client:
        found = await samples(client)
    # Two rerankers share the engine: each has done its own part, and both know of each restart.
    assert found["qwen3_reranker_engine_requests_total device=cuda:0"] == 8
    assert found["qwen3_reranker_engine_tokens_total device=cuda:0"] == 18
    assert found["qwen3_reranker_engine_restarts_total device=cuda:0"] == 1
    assert found["qwen3_reranker_engine_failures_total device=cuda:0"] == 2


async def test_a_failure_counts_as_a_request_and_not_as_documents() -> None:
    scorer = RelevanceScorer()
    scorer.error = ServerUnavailableError("gone")
    async with gateway(scorer) as client:
        await client.post("/rerank", json=BODY)
        found = await samples(client)
    name = "qwen3_reranker_requests_total api=rerank model=relevance status=503"
    assert found[name] == 1
    assert "qwen3_reranker_documents_total model=relevance" not in found


async def test_open_metrics_are_sent_to_who_prefers_them() -> None:
    async with gateway(RelevanceScorer()) as client:
        response = await client.get("/metrics", headers={"Accept": OPEN_METRICS})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


async def test_two_gateways_in_a_process_count_for_themselves() -> None:
    async with gateway(RelevanceScorer()) as one, gateway(RelevanceScorer()) as other:
        await one.post("/rerank", json=BODY)
        name = "qwen3_reranker_requests_total api=rerank model=relevance status=200"
        assert (await samples(one))[name] == 1
        assert name not in await samples(other)


async def test_the_autoscaler_reads_gauges_that_exist() -> None:
    text = kubernetes(launch("demo", version="0.32.0", device="gpu"), gateway=True)
    names = re.findall(r"name: (qwen3_reranker_\w+)", text)
    assert len(names) == 2
    async with gateway(RelevanceScorer()) as client:
        assert set(names) <= (await samples(client)).keys()
