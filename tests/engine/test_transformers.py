"""`engine="transformers"`: the same words, in this process, against the model card's recipe."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import (
    CheckpointError,
    ClosedError,
    EngineError,
    InputError,
    Reranker,
    event_loop,
)
from qwen3_reranker.embedded import transformers_client
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.embedded.transformers_client import make_batches, shared_length

from support.checkpoints import convert_demo, copy_demo, tiny
from support.engine_processes import BARE_LOGGER, engine_of
from support.helpers import SECRET
from support.real_pairs import real_pairs

TOLERANCE = 2e-3
FP32: dict[str, Any] = {"dtype": "float32", "device": "cpu"}
PAIRS = real_pairs(6)
QUERY, DOCUMENTS = PAIRS[0]


@pytest.fixture(scope="module")
def transformers_reranker() -> Iterator[Reranker]:
    with Reranker("demo", engine="transformers", engine_args=FP32) as reranker:
        yield reranker


@pytest.fixture(scope="module")
def right() -> list[list[float]]:
    with Reranker(scorer=TransformersScorer("demo", dtype="float32")) as reference:
        return [reference.score(query, documents) for query, documents in PAIRS]


def test_scores_are_those_of_the_reference(
    transformers_reranker: Reranker, right: list[list[float]]
) -> None:
    for (query, documents), expected in zip(PAIRS, right, strict=True):
        found = transformers_reranker.score(query, documents)
        assert found == pytest.approx(expected, abs=TOLERANCE)
        assert transformers_reranker.score(query, documents[:1]) == pytest.approx(
            expected[:1], abs=TOLERANCE
        )
    assert "transformers" in transformers_reranker.describe()


@pytest.mark.parametrize("labels", [1, 2])
def test_converted_checkpoints(labels: int, tmp_path: Path, right: list[list[float]]) -> None:
    model = convert_demo(tmp_path / "converted", labels)
    with Reranker(str(model), engine="transformers", engine_args=FP32) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == pytest.approx(right[0], abs=TOLERANCE)


async def test_calls_at_once_in_both_frameworks(right: list[list[float]]) -> None:
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from qwen3_reranker import langchain, llama_index

    made: dict[str, Any] = {"model": "demo", "engine": "transformers", "engine_args": FP32}
    best = max(right[0])
    async with langchain.Qwen3Rerank(**made, top_n=1) as compressor:
        found = await asyncio.gather(
            *(
                compressor.acompress_documents([Document(text) for text in DOCUMENTS], QUERY)
                for _ in range(4)
            )
        )
    for documents in found:
        score = documents[0].metadata["relevance_score"]
        assert score == pytest.approx(best, abs=TOLERANCE)
    with llama_index.Qwen3Rerank(**made, top_n=1) as postprocessor:
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
        [hit] = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    assert hit.score == pytest.approx(best, abs=TOLERANCE)


def test_batches_are_no_larger_than_asked(right: list[list[float]]) -> None:
    small = {**FP32, "max_num_batched_tokens": 1}
    with Reranker("demo", engine="transformers", engine_args=small) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == pytest.approx(right[0], abs=TOLERANCE)


@given(st.lists(st.integers(1, 500), min_size=1), st.integers(1, 2000))
def test_every_prompt_is_in_one_batch(lengths: list[int], budget: int) -> None:
    batches = list(make_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 3), max_size=5),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=6),
)
def test_what_all_prompts_begin_with(head: list[int], tails: list[list[int]]) -> None:
    prompts = [head + tail for tail in tails]
    shared = shared_length(prompts)
    assert all(prompt[:shared] == prompts[0][:shared] for prompt in prompts)
    assert shared <= min(map(len, prompts)) - 1
    longer = {tuple(prompt[: shared + 1]) for prompt in prompts}
    assert len(longer) > 1 or shared == min(map(len, prompts)) - 1


def test_equal_settings_share_the_weights(transformers_reranker: Reranker) -> None:
    loaded = transformers_reranker.warm_up()
    with Reranker("demo", engine="transformers", engine_args=FP32) as other:
        assert "not started" not in other.describe()
    assert loaded.score(QUERY, DOCUMENTS[:2])  # its last user is still there


async def test_canceling_stops_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()
    batches = 0
    original = transformers_client.make_batches

    def slowly(*arguments: Any) -> Iterator[list[int]]:
        nonlocal batches
        for batch in original(*arguments):
            batches += 1
            started.set()
            assert go_on.wait(60)
            yield batch

    small = {**FP32, "max_num_batched_tokens": 1}
    async with Reranker("demo", engine="transformers", engine_args=small, check=False) as reranker:
        await reranker.awarm_up()
        monkeypatch.setattr(transformers_client, "make_batches", slowly)
        call = asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS))
        await asyncio.to_thread(started.wait, 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
        await reranker.ascore(QUERY, DOCUMENTS[:1])
    # One batch may begin before another thread hears of the cancellation.
    assert batches < len(DOCUMENTS) + 1


def test_what_torch_raises_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("MPS backend out of memory")

    with Reranker("demo", engine="transformers", engine_args=FP32, check=False) as reranker:
        reranker.warm_up()
        monkeypatch.setattr(transformers_client, "make_batches", fail)
        with pytest.raises(EngineError, match="out of memory"):
            reranker.score(QUERY, DOCUMENTS)
        monkeypatch.undo()
        assert len(reranker.score(QUERY, DOCUMENTS)) == len(DOCUMENTS)


def test_a_token_that_the_model_does_not_have_is_an_engine_error(
    transformers_reranker: Reranker,
) -> None:
    transformers_reranker.warm_up()
    client = engine_of(transformers_reranker).running.client
    with pytest.raises(EngineError, match="the model failed: IndexError"):
        event_loop.run(client.encode([[10**6]]))
    assert transformers_reranker.score(QUERY, DOCUMENTS[:1])


def test_damaged_weights_are_an_engine_error_that_shows_no_token(tmp_path: Path) -> None:
    folder = copy_demo(tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with (
        Reranker(
            str(folder), engine="transformers", engine_args={**FP32, "hf_token": SECRET}
        ) as reranker,
        pytest.raises(EngineError, match="cannot be loaded: SafetensorError") as caught,
    ):
        reranker.score(QUERY, DOCUMENTS)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert SECRET not in "".join(report.format())


def test_an_unknown_dtype_is_an_engine_error() -> None:
    with (
        Reranker("demo", engine="transformers", engine_args={"dtype": "float33"}) as reranker,
        pytest.raises(EngineError, match=r"cannot be loaded: .*float33"),
    ):
        reranker.score(QUERY, DOCUMENTS)


def test_a_model_that_is_no_reranker_is_refused(tmp_path: Path) -> None:
    with (
        Reranker(str(tiny(tmp_path / "tiny")), engine="transformers") as reranker,
        pytest.raises(CheckpointError, match="does not score as a Qwen3 reranker"),
    ):
        reranker.score(QUERY, DOCUMENTS)


def test_a_closed_reranker_raises_closed_error() -> None:
    reranker = Reranker("demo", engine="transformers", engine_args=FP32).warm_up()
    reranker.close()
    with pytest.raises(ClosedError):
        reranker.score(QUERY, DOCUMENTS)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_it_is_the_default_where_vllm_has_no_wheels(
    platform: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("qwen3_reranker.embedded.progress._logger", BARE_LOGGER)
    with Reranker("demo", engine_args=FP32) as reranker:
        assert "transformers" in reranker.describe()
    assert f"vLLM has no wheels for {platform}" in capsys.readouterr().err
    with Reranker("demo", engine_args=FP32, quiet=True):
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "onnx"}, "engine='onnx': give one of 'auto', 'vllm', 'transformers'"),
        ({"engine_args": {"block_size": 32}}, "engine_args has block_size, but engine='tr"),
        ({"engine_python": "python"}, "engine_python= is for vLLM"),
        ({"base_url": "http://localhost"}, "only an embedded engine can use engine="),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Reranker(**{"model": "demo", "engine": "transformers", **arguments})
