"""The settings that a cached score depends on, and what a fingerprint must not contain."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import (
    Reranker,
    event_loop,
)
from qwen3_reranker.dialects.vllm import VllmClassify
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.embedded.scorer import EmbeddedScorer
from qwen3_reranker.model.checkpoint import DEMO_MODEL, Checkpoint
from qwen3_reranker.remote.scorer import RemoteScorer

from support.helpers import SECRET
from support.scripted_server import Reply, Request, ScriptedServer


def telling(place: str) -> ScriptedServer:
    """Return a server whose scores depend on all that it can tell apart, and on itself."""

    def noisy(right: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        def answer(request: Request) -> Reply:
            headers = [
                request.headers.get(name) for name in ("authorization", "x-version", "x-tenant")
            ]
            seen = repr([place, request.path, headers, request.body])
            body = right(request).body
            for result in body.get("results") or body["data"]:
                noise = crc32(seen.encode()) / 2**32 / 100
                if "probs" in result:
                    result["probs"][0] += noise
                else:
                    result["relevance_score"] += noise
            return Reply(body)

        return answer

    server = ScriptedServer()
    for (method, path), right in server.script.items():
        if method == "POST":
            server.script[method, path] = noisy(right)
    return server


class Damped(VllmClassify):
    """A dialect of the user's with the name of another."""

    def parse(self, answer: Any, count: int) -> list[float]:
        return [0.99 * score for score in super().parse(answer, count)]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[ScriptedServer]]:
    with telling("here") as one, telling("there") as other:
        yield [one, other]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two that cut at different places."""
    tokenizer = json.loads((DEMO_MODEL / "tokenizer.json").read_text())
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = merges[: len(merges) // 2]
    other = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    other.write_text(json.dumps(tokenizer))
    return ["demo", str(other)]


SERVER_SETTINGS: dict[str, list[Any]] = {
    "server": [0, 1],
    "tokenizer": [0, 1],
    "max_length": [150, 160],
    "model": ["scripted-reranker", "another"],
    "headers": [{"X-Version": "1"}, {"x-version": "2"}],
    "api_key": ["one", "two"],
    "dialect": ["auto", "vllm-classify", "vllm-rerank", Damped()],
    "client": ["1", "2"],
}
LONG = "a river that begins in the hills and ends in the sea " * 9


async def score(
    servers: list[ScriptedServer],
    tokenizers: list[str],
    settings: dict[str, Any],
    cache: dict[str, Any] | None,
) -> list[float]:
    settings = {**settings}
    url = servers[settings.pop("server")].url
    tokenizer = tokenizers[settings.pop("tokenizer")]
    version = settings.pop("client")
    client = httpx.AsyncClient(headers={"x-tenant": version}) if version else None
    async with Reranker(
        base_url=url, cache=cache, tokenizer=tokenizer, http_client=client, **settings
    ) as reranker:
        scores = await reranker.ascore("Where does the river begin?", ["a river", LONG])
    if client is not None:
        await client.aclose()
    return scores


def neighbors(values: dict[str, list[Any]], name: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return a strategy for two settings that differ in one value."""
    settings = st.fixed_dictionaries({key: st.sampled_from(found) for key, found in values.items()})
    pair = st.permutations(values[name])
    return st.builds(lambda one, two: [{**one, name: value} for value in two[:2]], settings, pair)


@pytest.mark.parametrize("name", SERVER_SETTINGS)
@settings(max_examples=3)
@given(data=st.data())
def test_settings_of_a_server_that_give_other_scores_share_no_entry(
    servers: list[ScriptedServer], tokenizers: list[str], name: str, data: st.DataObject
) -> None:
    one, other = data.draw(neighbors(SERVER_SETTINGS, name))

    async def compared() -> None:  # on the package's loop, where a client of the user's has to live
        cache: dict[str, Any] = {}
        await score(servers, tokenizers, one, cache)
        cached = await score(servers, tokenizers, other, cache)
        assert cached == await score(servers, tokenizers, other, None)

    event_loop.run(compared())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Models that differ in their files alone."""
    root = tmp_path_factory.mktemp("models")
    first, second = (shutil.copytree(DEMO_MODEL, root / name) for name in ("first", "second"))
    return ["demo", str(first), str(second)]


ENGINE_SETTINGS: dict[str, list[Any]] = {
    "model": [0, 1, 2],
    "max_length": [None, 100, 200],
    "dtype": ["auto", "float32", "bfloat16"],
    "hf_overrides": [{}, {"rope_theta": 2.0}],
    "hf_token": [None, "one", "two"],
}


@pytest.mark.parametrize("name", ENGINE_SETTINGS)
@settings(max_examples=3)
@given(data=st.data())
def test_settings_of_an_engine_that_give_other_scores_share_no_entry(
    folders: list[str], name: str, data: st.DataObject
) -> None:
    def fingerprint(model: int, max_length: int | None, **engine_args: Any) -> str | None:
        scorer = EmbeddedScorer(folders[model], max_length=max_length, engine_args=engine_args)
        return event_loop.run(scorer.fingerprint())

    one, other = data.draw(neighbors(ENGINE_SETTINGS, name))
    assert fingerprint(**one) == fingerprint(**one)
    assert (fingerprint(**one) == fingerprint(**other)) == (name == "hf_token")


RECIPE_SETTINGS: dict[str, list[Any]] = {
    "model": [0, 1, 2],
    "max_length": [None, 100, 200],
    "dtype": ["auto", "float32", "bfloat16"],
    "device": ["cpu", "cuda"],
    "batch_size": [1, 8],
}


@pytest.mark.parametrize("name", RECIPE_SETTINGS)
@settings(max_examples=3)
@given(data=st.data())
def test_settings_of_the_recipe_that_give_other_scores_share_no_entry(
    folders: list[str], name: str, data: st.DataObject
) -> None:
    def fingerprint(model: int, **settings: Any) -> str:
        return event_loop.run(TransformersScorer(folders[model], **settings).fingerprint())

    one, other = data.draw(neighbors(RECIPE_SETTINGS, name))
    assert fingerprint(**one) == fingerprint(**one)
    assert fingerprint(**one) != fingerprint(**other)


def test_no_key_material_is_in_a_fingerprint() -> None:
    with ScriptedServer() as server:
        for scorer in (
            EmbeddedScorer("demo", engine_args={"hf_token": SECRET}),
            RemoteScorer(server.url, api_key=SECRET, headers={"x-key": SECRET}),
        ):
            fingerprint = event_loop.run(scorer.fingerprint())
            assert fingerprint is not None
            assert SECRET not in fingerprint
            event_loop.run(scorer.aclose())


def test_other_weights_in_the_same_folder_are_another_model(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO_MODEL, tmp_path / "model")
    checkpoint = Checkpoint.load(str(folder))
    before = checkpoint.fingerprint()
    assert checkpoint.fingerprint() == before
    weights = folder / "model.safetensors"
    times = (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)
    weights.write_bytes(weights.read_bytes()[::-1])
    os.utime(weights, ns=times)  # as tools do that unpack archives
    replaced = checkpoint.fingerprint()
    assert replaced != before
    os.utime(weights, ns=(1, 1))
    assert checkpoint.fingerprint() not in (before, replaced)
