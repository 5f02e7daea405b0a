"""A run of the page: what it ranks, what it shows meanwhile, and how it ends."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import InputError, Reranker, RerankerWarning, ServerUnavailableError
from qwen3_reranker.errors import EngineError, RerankerError
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION
from qwen3_reranker.playground import progress as progress_module
from qwen3_reranker.playground import ranking as module
from qwen3_reranker.playground.events import Update, describe_file, prompt_of, run
from qwen3_reranker.playground.export import export_json
from qwen3_reranker.playground.inputs import FileContent, Inputs
from qwen3_reranker.playground.models import Models
from qwen3_reranker.playground.progress import Progress
from qwen3_reranker.playground.ranking import rank, settings_of

from support.html_pages import Page
from support.playground import DOCUMENTS, INPUTS, QUERY, PageScorer, rerankers

OTHER = "Given a question about Python, retrieve the documentation that answers it"
COMPARED = replace(INPUTS, compare=True, other_instruction=OTHER)
words = st.sampled_from(["copy", "folder", "file", "shuffle", "list", "move"])
# Few words, so that documents are often equal.
documents_of_words = st.lists(
    st.lists(words, min_size=1, max_size=3).map(" ".join) | st.just("copy folder " * 40),
    min_size=1,
    max_size=12,
)


def models_of(*scorers: PageScorer) -> Models:
    return Models.of(rerankers(*(scorers or (PageScorer(),))))


def lines(documents: Sequence[str]) -> FileContent:
    """Return a file that has these documents, blank ones included."""
    return FileContent("a.jsonl", "\n".join(json.dumps({"text": text}) for text in documents))


@given(
    documents_of_words,
    st.sampled_from(["cut", "passages"]),
    st.sampled_from(["", OTHER]),
    st.integers(1, 5),
)
async def test_a_page_ranks_as_rerank_does(
    documents: list[str], mode: Any, instruction: str, chunk: int
) -> None:
    models = models_of()
    inputs = Inputs(QUERY, instruction, file=lines(documents), long_documents=mode)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_CHUNK", chunk)
        ranked = (await rank(inputs, models, Progress())).rankings[0]
    reranker = models.reranker("scripted", mode)
    assert ranked.hits == await reranker.arerank(QUERY, documents, instruction=instruction or None)
    assert ranked.usage.queries == 1
    assert ranked.usage.documents == len(documents)


@given(
    documents_of_words, st.none() | st.integers(1, 14), st.none() | st.sampled_from([0.0, 0.3, 0.9])
)
async def test_what_is_kept_is_what_rerank_returns(
    documents: list[str], top_n: int | None, min_score: float | None
) -> None:
    models = models_of()
    inputs = Inputs(QUERY, file=lines(documents), top_n=top_n, min_score=min_score)
    ranked = (await rank(inputs, models, Progress())).rankings[0]
    expected = await Reranker(scorer=PageScorer()).arerank(
        QUERY, documents, top_n=top_n, min_score=min_score
    )
    assert ranked.hits[: ranked.kept] == expected
    assert len(ranked.hits) == len(documents)


async def test_a_comparison_ranks_with_both_instructions() -> None:
    result = await rank(COMPARED, models_of(), Progress())
    assert [ranked.setting.instruction for ranked in result.rankings] == [
        DEFAULT_INSTRUCTION,
        OTHER,
    ]
    reranker = Reranker(scorer=PageScorer())
    for ranked in result.rankings:
        instruction = ranked.setting.instruction
        assert ranked.hits == await reranker.arerank(QUERY, DOCUMENTS, instruction=instruction)
    assert result.rankings[0].hits != result.rankings[1].hits


async def test_a_comparison_asks_both_models() -> None:
    scorers = PageScorer("one"), PageScorer("two")
    inputs = replace(INPUTS, compare=True, other_model="two")
    result = await rank(inputs, models_of(*scorers), Progress())
    assert [ranked.setting.model for ranked in result.rankings] == ["one", "two"]
    assert [len(scorer.calls) for scorer in scorers] == [1, 1]


def test_the_instruction_of_the_reranker_is_the_default() -> None:
    models = Models.of([Reranker(scorer=PageScorer(), instruction=OTHER)])
    assert [s.instruction for s in settings_of(INPUTS, models)] == [OTHER]
    own = replace(INPUTS, instruction=" my own ")
    assert [s.instruction for s in settings_of(own, models)] == ["my own"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (replace(INPUTS, query=" "), "query is blank"),
        (replace(INPUTS, text=" "), "there are no documents"),
        (replace(INPUTS, top_n=0), "top_n"),
        (replace(INPUTS, min_score=2), "min_score"),
        (replace(INPUTS, model="unknown"), "no model 'unknown': choose one of scripted"),
        (replace(INPUTS, compare=True), "both sides of the comparison are the same"),
        (
            replace(COMPARED, instruction=OTHER),
            "both sides of the comparison are the same: change the second instruction$",
        ),
    ],
)
async def test_what_cannot_be_used_is_said_before_anything_is_scored(
    inputs: Inputs, message: str
) -> None:
    scorer = PageScorer()
    with pytest.raises(InputError, match=message):
        await rank(inputs, models_of(scorer), Progress())
    assert not scorer.calls


async def updates_of(scorer: PageScorer, inputs: Inputs = INPUTS, **options: Any) -> list[Update]:
    options = {"has_result": False, "tick": 0.01} | options
    return [update async for update in run(inputs, models_of(scorer), **options)]


async def test_a_run_ends_with_the_result() -> None:
    *before, last = await updates_of(PageScorer())
    assert all(update.running and update.result is None for update in before)
    assert before and not last.running and last.message == ""
    assert last.result is not None and last.result.documents == DOCUMENTS


@pytest.mark.parametrize("has_result", [True, False])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EngineError("out of memory"), "The engine failed Out of memory"),
        (ValueError("odd"), "The page itself failed: this is a defect Odd"),
    ],
)
async def test_a_failed_run_says_why_and_keeps_the_last_result(
    error: Exception, words: str, has_result: bool
) -> None:
    scorer = PageScorer()
    scorer.error = error
    last = (await updates_of(scorer, has_result=has_result))[-1]
    assert last.result is None and not last.running
    kept = "Your inputs and the last result are still here."
    texts = [part.text for part in Page.parse(last.message).root.all() if part.name != "div"]
    assert " ".join(texts) == words + (f" {kept}" if has_result else "")


async def test_an_order_that_was_only_kept_is_an_error() -> None:
    scorer = PageScorer()
    scorer.error = EngineError("out of memory")
    models = Models.of([Reranker(scorer=scorer, on_error="keep_order")])
    with pytest.warns(RerankerWarning), pytest.raises(EngineError, match="out of memory"):
        await rank(INPUTS, models, Progress())


async def test_a_run_that_is_left_cancels_the_scoring() -> None:
    scorer = PageScorer()
    scorer.hold = threading.Event()
    updates = run(INPUTS, models_of(scorer), has_result=False, tick=0.01)
    while not scorer.waiting.is_set():
        assert (await anext(updates)).running
    await updates.aclose()
    assert await asyncio.to_thread(scorer.cancelled.wait, 10)


async def test_the_progress_counts_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)

    class Recorded(Progress):
        shown: list[str] = []

        def show(self, text: str) -> None:
            super().show(text)
            self.shown.append(text)

    await rank(COMPARED, models_of(), Recorded())
    assert [text for text in Recorded.shown if text.startswith("Scoring")] == [
        "Scoring documents with setting A: 3",
        "Scoring documents with setting A: 2 of 3 scored",
        "Scoring documents with setting B: 3",
        "Scoring documents with setting B: 2 of 3 scored",
    ]


class Late(Reranker):
    """Is ready only at the third attempt."""

    def __init__(self, error: RerankerError) -> None:
        super().__init__(scorer=PageScorer())
        self.errors = [error, error]

    async def awarm_up(self, **_: Any) -> Late:
        if self.errors:
            raise self.errors.pop()
        return self


@pytest.mark.parametrize(
    "error", [ServerUnavailableError("refused"), ServerUnavailableError("loading", status=503)]
)
async def test_a_server_that_is_not_up_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, error: RerankerError
) -> None:
    monkeypatch.setattr(progress_module, "_ATTEMPT_INTERVAL", 0)
    reranker, progress = Late(error), Progress()
    await progress.start(reranker)
    assert not reranker.errors
    assert progress.text == f"The server is not ready yet, trying again. {error}"


@pytest.mark.parametrize(
    "error", [ServerUnavailableError("busy", status=429), EngineError("no such model")]
)
async def test_a_server_that_refuses_is_not_waited_for(error: RerankerError) -> None:
    with pytest.raises(type(error)):
        await Progress().start(Late(error))


async def test_a_server_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "SERVER_WAIT", -1)
    with pytest.raises(ServerUnavailableError):
        await Progress().start(Late(ServerUnavailableError("refused")))


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=4)
)
@settings(max_examples=50)
async def test_the_export_has_everything(documents: list[str]) -> None:
    inputs = Inputs("copy", file=lines(documents), compare=True, other_instruction=OTHER, top_n=2)
    result = await rank(inputs, models_of(), Progress())
    data = json.loads(export_json(result), parse_constant=pytest.fail)
    assert (data["query"], data["top_n"], data["min_score"]) == ("copy", 2, None)
    for exported, ranked in zip(data["rankings"], result.rankings, strict=True):
        assert exported["instruction"] == ranked.setting.instruction
        assert exported["usage"] == json.loads(json.dumps(asdict(ranked.usage)))
        for place, (document, hit) in enumerate(
            zip(exported["documents"], ranked.hits, strict=True)
        ):
            assert document["rank"] == place + 1
            assert document["kept"] == (place < ranked.kept)
            assert document["index"] == hit.index
            assert document["text"] == documents[hit.index] == hit.text
            assert document["score"] == hit.score
            assert document["logit"] == (hit.logit if hit.text.strip() else None)
    assert {d["index"] for d in data["rankings"][0]["documents"]} == set(range(len(documents)))


async def test_the_prompt_of_a_document_is_that_of_its_passage_and_setting() -> None:
    long = "random words about nothing. " * 10 + "copy a folder with copytree. " + "more words " * 9
    inputs = replace(COMPARED, text=f"short\n\n{long}", long_documents="passages")
    models = models_of()
    result = await rank(inputs, models, Progress())
    for side, ranked in enumerate(result.rankings):
        place = [hit.text for hit in result.rankings[0].hits].index(long.strip())
        hit = next(hit for hit in ranked.hits if hit.index == 1)
        assert hit.passage is not None and hit.passage.count > 1
        shown = Page.parse(prompt_of(result, models, place, side)).root
        passage = hit.text[hit.passage.start : hit.passage.end]
        prompt = PageScorer().prompt(QUERY, passage, ranked.setting.instruction)
        assert shown.all("pre")[-1].text == prompt.text
        assert f"the document's {hit.passage.count} passages" in shown.all("p")[0].text


async def test_a_prompt_that_cannot_be_written_is_said() -> None:
    models = Models.of([Reranker(scorer=Promptless())])
    result = await rank(INPUTS, models, Progress())
    assert 'role="alert"' in prompt_of(result, models, 0, 0)


class Promptless(PageScorer):
    def prompt(self, query: str, document: str, instruction: str | None) -> Any:
        raise EngineError("no tokenizer")


def test_a_file_is_described() -> None:
    file = FileContent("a.txt", "x\ny " + "z" * 90 + "\n\nsecond")
    shown = f"a.txt: 2 documents. The first: x y {'z' * 76} …"
    assert describe_file(Inputs(file=file)) == (shown, [])
    columns = FileContent("a.csv", "title,abstract\none,two\n")
    text, names = describe_file(Inputs(file=columns))
    assert "has no text under one of text" in text and names == ["title", "abstract"]
    chosen = Inputs(file=columns, field="title")
    assert describe_file(chosen) == ("a.csv: 1 document. The first: one", ["title", "abstract"])
