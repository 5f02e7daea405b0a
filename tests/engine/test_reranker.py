"""The reranker on the real engine: what it returns, and that both APIs and all threads agree."""

from __future__ import annotations

import asyncio
import copy
import pickle
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import certifi
import pytest

from qwen3_reranker import (
    DEFAULT_INSTRUCTION,
    ClosedError,
    EngineError,
    InputError,
    Prompt,
    PromptTooLongError,
    Reranker,
    RerankerError,
    ScoreError,
    event_loop,
)
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support.engine_processes import engine_of
from support.helpers import EAGER, SETTINGS, AnsweringScorer

QUERY = "How do I join two paths?"
DOCUMENTS = [
    "json.dumps(obj)\n\nSerialize obj to a JSON formatted str.",
    "",
    "os.path.join(a, *p)\n\nJoin two or more pathname components, inserting '/' as needed.",
    "json.dumps(obj)\n\nSerialize obj to a JSON formatted str.",
    " \n",
    "time.sleep(seconds)\n\nDelay execution for a given number of seconds.",
]


def test_rerank(reranker: Reranker) -> None:
    before = list(DOCUMENTS)
    hits = reranker.rerank(QUERY, DOCUMENTS)
    assert before == DOCUMENTS
    assert sorted(hit.index for hit in hits) == list(range(6))
    assert [hit.index for hit in hits[-2:]] == [1, 4]
    assert [hit.text for hit in hits] == [DOCUMENTS[hit.index] for hit in hits]
    assert hits[0].index == 2
    scores = reranker.score(QUERY, DOCUMENTS)
    assert scores == pytest.approx(
        [{h.index: h.score for h in hits}[i] for i in range(6)], abs=1e-5
    )
    assert scores[0] == scores[3] and scores[1] == scores[4] == 0.0
    assert [h.index for h in reranker.rerank(QUERY, DOCUMENTS, top_n=2)] == [
        h.index for h in hits[:2]
    ]
    least = (hits[0].score + hits[1].score) / 2
    assert [h.index for h in reranker.rerank(QUERY, DOCUMENTS, min_score=least)] == [2]


async def test_the_async_twins_agree(reranker: Reranker) -> None:
    assert [h.index for h in await reranker.arerank(QUERY, DOCUMENTS)] == [
        h.index for h in reranker.rerank(QUERY, DOCUMENTS)
    ]
    assert await reranker.ascore(QUERY, DOCUMENTS) == pytest.approx(
        reranker.score(QUERY, DOCUMENTS), abs=1e-5
    )
    pairs = [(QUERY, DOCUMENTS), ("sleep", DOCUMENTS[:1])]
    many = await reranker.arerank_many(pairs)
    assert [[h.index for h in hits] for hits in many] == [
        [h.index for h in hits] for hits in reranker.rerank_many(pairs)
    ]


def test_rerank_many(reranker: Reranker, capsys: pytest.CaptureFixture[str]) -> None:
    queries = ["join paths", "parse json", "wait a second"]
    pairs = [*((q, DOCUMENTS) for q in queries), ("nothing", []), ("blank", [""])]
    many = reranker.rerank_many(iter(pairs), top_n=2, progress=True)
    assert "doc" in capsys.readouterr().err
    for query, hits in zip(queries, many, strict=False):
        one = reranker.rerank(query, DOCUMENTS, top_n=2)
        assert [h.index for h in hits] == [h.index for h in one]
        assert [h.score for h in hits] == pytest.approx([h.score for h in one], abs=1e-5)
    assert [len(hits) for hits in many] == [2, 2, 2, 0, 1]
    reranker.rerank_many(pairs[:1])
    assert capsys.readouterr().err == ""


def test_more_documents_than_may_be_in_flight(reranker: Reranker) -> None:
    pairs = [(f"number {i}", [f"the number {i}-{j}" for j in range(700)]) for i in range(5)]
    many = reranker.rerank_many(pairs)
    assert [len(hits) for hits in many] == [700] * 5
    one = {h.index: h.score for h in many[3]}
    assert reranker.score(pairs[3][0], pairs[3][1][:5]) == pytest.approx(
        [one[i] for i in range(5)], abs=1e-5
    )


def test_the_instruction_counts(reranker: Reranker) -> None:
    document = DOCUMENTS[2]
    default = reranker.score(QUERY, [document])
    assert reranker.score(QUERY, [document], instruction=DEFAULT_INSTRUCTION) == pytest.approx(
        default, abs=1e-6
    )
    other = reranker.score(QUERY, [document], instruction="Find what is about cooking")
    assert abs(other[0] - default[0]) > 1e-4
    own = Reranker(**SETTINGS, instruction="Find what is about cooking")
    try:
        assert own.score(QUERY, [document]) == pytest.approx(other, abs=1e-6)
        assert (
            own.prompt("q", "d").text
            == reranker.prompt("q", "d", "Find what is about cooking").text
        )
    finally:
        own.close()  # shares the engine, which goes on
    assert reranker.score(QUERY, [document]) == pytest.approx(default, abs=1e-6)


def test_prompt_shows_what_is_sent(reranker: Reranker) -> None:
    prompt = reranker.prompt("q", "a document <|im_end|>")
    assert isinstance(prompt, Prompt)
    assert prompt.text.startswith("<|im_start|>system\nJudge whether")
    assert "<Query>: q\n<Document>: a document < |im_end|><|im_end|>\n" in prompt.text
    assert not prompt.truncated


def test_threads_and_loops_share_the_engine(reranker: Reranker) -> None:
    queries = [f"{verb} {thing}" for verb in ("join", "read", "copy") for thing in "abcdefgh"]
    expected = [reranker.score(query, DOCUMENTS) for query in queries]

    def in_thread(query: str) -> list[float]:
        return reranker.score(query, DOCUMENTS)

    def in_own_loop(query: str) -> list[float]:
        return asyncio.run(reranker.ascore(query, DOCUMENTS))

    with ThreadPoolExecutor(16) as pool:
        one = list(pool.map(in_thread, queries))
        other = list(pool.map(in_own_loop, queries))
    for got in (one, other):
        for scores, right in zip(got, expected, strict=True):
            assert scores == pytest.approx(right, abs=1e-5)


async def test_a_call_canceled_at_its_start_leaves_the_engine_to_others(
    reranker: Reranker,
) -> None:
    for ticks in range(12):
        task = asyncio.create_task(reranker.ascore(QUERY, [f"{ticks} {i}" for i in range(8)]))
        await asyncio.sleep(0.0005 * ticks)
        task.cancel()
        async with asyncio.timeout(60):
            assert len(await reranker.ascore(QUERY, DOCUMENTS)) == len(DOCUMENTS)


async def test_canceling_takes_the_requests_out_of_the_engine(reranker: Reranker) -> None:
    await reranker.awarm_up()
    client = engine_of(reranker).running.client
    texts = [f"{i} " + "word " * 2000 for i in range(200)]
    task = asyncio.create_task(reranker.ascore("q", texts))
    async with asyncio.timeout(60):
        while await event_loop.arun(client.count_requests()) < 100:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        while await event_loop.arun(client.count_requests()):
            await asyncio.sleep(0.01)
    assert await reranker.ascore(QUERY, DOCUMENTS[:1])


def test_long_documents_are_cut_and_say_so(reranker: Reranker) -> None:
    hits = reranker.rerank("q", ["word " * 20_000, "short"])
    assert {hit.index: hit.truncated for hit in hits} == {0: True, 1: False}


def test_no_room_for_documents(reranker: Reranker) -> None:
    with pytest.raises(PromptTooLongError, match="max_length=8192"):
        reranker.rerank("word " * 20_000, ["d"])


def test_a_failed_request_raises(reranker: Reranker) -> None:
    reranker.warm_up()
    engine = engine_of(reranker)
    with pytest.raises(EngineError, match="failed on a request"):
        event_loop.run(engine.running.client.encode([[5, 6, 7], [5] * 9000]))
    assert reranker.score(QUERY, DOCUMENTS[:1])


def test_sharing_and_closing() -> None:
    settings = {**EAGER, "max_num_seqs": 8}
    first, second = (Reranker("demo", engine_args=settings) for _ in range(2))
    third = Reranker("demo", engine_args=settings, max_length=512)
    engines = [engine_of(r) for r in (first, second, third)]
    assert engines[0] is engines[1] is not engines[2]
    third.close()  # never started
    assert first.rerank("q", []) == []
    assert engines[0].running is None
    assert first.warm_up() is first
    assert engines[0].running is not None
    first.close()
    first.close()
    with pytest.raises(ClosedError, match="closed: make a new one"):
        first.score("q", ["d"])
    assert len(second.score("q", ["d"])) == 1

    failures: list[BaseException] = []

    def wait() -> None:
        try:
            second.score("q", [f"{i} " + "word " * 4000 for i in range(100)])
        except RerankerError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    client = engines[0].running.client
    while event_loop.run(client.count_requests()) < 50:
        time.sleep(0.01)
    second.close()
    thread.join(60)
    assert [type(error) for error in failures] == [ClosedError]
    assert engines[0].running is None


@pytest.mark.parametrize("values", [(float("nan"), 0.5), (0.5,), (0.1, 0.2, 0.3), (2.0, 0.5)])
async def test_bad_answers_raise(values: tuple[float, ...]) -> None:
    reranker = Reranker(scorer=AnsweringScorer(*values))
    for call in (reranker.rerank, reranker.score):
        with pytest.raises(ScoreError):
            call("q", ["a", "b"])
    with pytest.raises(ScoreError):
        await reranker.arerank("q", ["a", "b"])
    with pytest.raises(ScoreError):
        reranker.rerank_many([("q", ["a", "b"])])


def test_equal_and_blank_texts_are_not_sent() -> None:
    scorer = AnsweringScorer(0.3, 0.6)
    reranker = Reranker(scorer=scorer)
    assert reranker.score("q", ["a", "", "b", "a"]) == [0.3, 0.0, 0.6, 0.3]
    assert scorer.seen == ["a", "b"]


def test_arguments_that_cannot_go_together() -> None:
    with pytest.raises(InputError, match="scorer= is given"):
        Reranker("demo", scorer=AnsweringScorer())
    with pytest.raises(InputError, match="instruction=3"):
        Reranker("demo", instruction=3)  # type: ignore[arg-type]


async def test_context_managers() -> None:
    with Reranker(scorer=AnsweringScorer(0.5)) as reranker:
        assert reranker.score("q", ["a"]) == [0.5]
    with pytest.raises(ClosedError):
        reranker.score("q", ["a"])
    async with Reranker(scorer=AnsweringScorer(0.5)) as reranker:
        assert await (await reranker.awarm_up()).ascore("q", ["a"]) == [0.5]
    with pytest.raises(ClosedError):
        await reranker.arerank("q", ["a"])


@pytest.mark.parametrize("kind", [Reranker, LangChainRerank, LlamaIndexRerank])
def test_a_folder_is_the_one_at_construction(
    kind: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name in ("first", "second"):
        shutil.copytree(DEMO_MODEL, tmp_path / name / "model")
        monkeypatch.chdir(tmp_path / name)
        made.append(kind(model="model", engine_args=EAGER))
    monkeypatch.chdir(tmp_path)
    if kind is not Reranker:
        made += [copy.copy(made[0]), made[0].model_copy()]
    for holder, name in zip(made, ("first", "second", "first", "first"), strict=False):
        assert f"checkpoint {tmp_path / name / 'model'}," in holder.describe()
        assert holder.model == str(tmp_path / name / "model")
        holder.close()


@pytest.mark.parametrize("kind", [LangChainRerank, LlamaIndexRerank])
@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "."])
def test_a_copy_finds_relative_paths_after_chdir(
    kind: Callable[..., Any], tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(DEMO_MODEL / "tokenizer.json", tmp_path)
    shutil.copy(certifi.where(), tmp_path / "authorities.pem")
    monkeypatch.chdir(tmp_path)
    made = kind(base_url="http://h", tokenizer=tokenizer, verify="authorities.pem")
    monkeypatch.chdir("/")
    for copied in (made.model_copy(), copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert Path(copied.tokenizer) == tmp_path / tokenizer
        assert copied.verify == str(tmp_path / "authorities.pem")


@pytest.mark.parametrize("kind", [LangChainRerank, LlamaIndexRerank])
def test_a_copy_finds_its_interpreter_after_chdir(
    kind: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = [kind(model="demo", engine="vllm", engine_python=name) for name in ("venv/py", "py")]
    monkeypatch.chdir("/")
    assert [holder.model_copy().engine_python for holder in made] == [f"{tmp_path}/venv/py", "py"]


def test_a_link_to_another_folder_is_another_model(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for name in ("first", "second"):
        shutil.copytree(DEMO_MODEL, tmp_path / name)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        with Reranker(str(link), engine_args=EAGER) as reranker:
            assert f"checkpoint {tmp_path / name}," in reranker.describe()
