"""Whatever a client sends to the gateway: right scores, or an error in its own language."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.gateway import GatewayConfig, Limits

from fuzz.mutations import any_json, any_text, damaged, damaged_bytes, encoded
from support.gateway import RelevanceScorer, gateway
from support.scripted_server import DOCUMENTS, QUERY, relevance

# The paths, each with a body that is right for it.
RERANK = {"model": "m", "query": QUERY, "documents": DOCUMENTS[:3], "top_n": 2}
MORE = {"return_documents": True, "instruction": "find", "kwargs": '{"x": 1}'}
BODIES: list[tuple[str, Any]] = [
    ("/rerank", RERANK),
    ("/v1/rerank", {**RERANK, **MORE, "documents": [{"text": DOCUMENTS[0]}, DOCUMENTS[1]]}),
    ("/v2/rerank", RERANK),
    ("/rerank", {"query": QUERY, "texts": DOCUMENTS[:3], "raw_scores": True, "return_text": True}),
    ("/score", {"text_1": QUERY, "text_2": DOCUMENTS[:2]}),
    ("/v1/score", {"queries": [QUERY], "documents": DOCUMENTS[:2]}),
]
REFUSED = {400, 404, 405, 413, 415, 422}
CONFIG = GatewayConfig(limits=Limits(max_body=50_000, max_documents=8))


@given(data=st.data())
@pytest.mark.timeout(900)
async def test_a_body(data: st.DataObject) -> None:
    path, good = data.draw(st.sampled_from(BODIES))
    body = data.draw(
        st.one_of(damaged(good).map(encoded), any_json.map(encoded), damaged_bytes(encoded(good)))
    )
    headers = data.draw(
        st.dictionaries(
            st.sampled_from(["Content-Type", "Authorization", "Content-Encoding", "X-Request-Id"]),
            st.sampled_from(["application/json", "text/plain", "Bearer ", "gzip", "x" * 5000]),
            max_size=2,
        )
    )
    async with gateway(RelevanceScorer(), CONFIG) as client:
        # An error that the application does not answer would be raised here.
        response = await client.post(path, content=body, headers=headers)
        assert response.status_code == 200 or response.status_code in REFUSED, response.text
        answer = response.json()
    if response.status_code != 200:
        assert answer
        return
    entries = answer if isinstance(answer, list) else answer.get("results", answer.get("data"))
    indexes = [entry["index"] for entry in entries]
    assert len(indexes) == len(set(indexes)) and all(index >= 0 for index in indexes)
    sent = json.loads(body)
    if path.endswith("rerank") and not {"instruction", "instruct", "kwargs", "texts"} & {*sent}:
        for entry in entries:
            document = sent["documents"][entry["index"]]
            text = document if isinstance(document, str) else document["text"]
            right = relevance(sent["query"], text) if text.strip() else 0.0
            assert entry["relevance_score"] == right


@given(path=any_text.map(lambda text: "/" + text), method=st.sampled_from(["GET", "POST", "PUT"]))
@pytest.mark.timeout(900)
async def test_a_path(path: str, method: str) -> None:
    async with gateway(RelevanceScorer(), CONFIG) as client:
        try:
            request = client.build_request(method, path, content=b"{}")
        except Exception:  # noqa: BLE001  # the client refuses the path
            return
        response = await client.send(request)
    assert response.status_code < 500
