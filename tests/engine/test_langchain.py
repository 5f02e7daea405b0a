"""The LangChain compressor by itself: what it returns, what it leaves alone, what it reads."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from pydantic import ValidationError

from qwen3_reranker import Reranker
from qwen3_reranker.langchain import Qwen3Rerank

from support.helpers import INSTRUCTION
from support.langchain_helpers import QUERY, Compress, scores_of, texts_of


def close_to(scores: Sequence[float]) -> Any:
    return pytest.approx(list(scores), abs=1e-4)


# What is returned


async def test_the_document_that_answers_comes_first(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    best, *_ = await compress(Qwen3Rerank(reranker=reranker), documents, QUERY)
    assert best.metadata["title"] == "shuffle"


@pytest.mark.parametrize("top_n", [1, 2, None, 100])
async def test_scores_are_the_rerankers_best_first(
    reranker: Reranker, documents: list[Document], compress: Compress, top_n: int | None
) -> None:
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=top_n), documents, QUERY)
    expected = dict(
        zip((d.id for d in documents), reranker.score(QUERY, texts_of(documents)), strict=True)
    )
    assert [expected[document.id] for document in kept] == close_to(scores_of(kept))
    assert scores_of(kept) == close_to(sorted(expected.values(), reverse=True)[:top_n])
    assert all(a >= b for a, b in pairwise(scores_of(kept)))


async def test_three_are_kept_by_default(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    assert len(await compress(Qwen3Rerank(reranker=reranker), documents, QUERY)) == 3


async def test_min_score_keeps_those_that_reach_it(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    everything = await compress(Qwen3Rerank(reranker=reranker, top_n=None), documents, QUERY)
    first, second, *_ = scores_of(everything)
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, min_score=(first + second) / 2)
    assert [d.id for d in await compress(adapter, documents, QUERY)] == [everything[0].id]
    assert await compress(adapter.model_copy(update={"min_score": 1}), documents, QUERY) == []


async def test_instruction_reaches_the_model(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, instruction=INSTRUCTION, top_n=None)
    instructed = reranker.score(QUERY, texts_of(documents), instruction=INSTRUCTION)
    plain = reranker.score(QUERY, texts_of(documents))
    scores = scores_of(await compress(adapter, documents, QUERY))
    assert scores == close_to(sorted(instructed, reverse=True))
    assert scores != close_to(sorted(plain, reverse=True))


async def test_id_metadata_and_class_are_kept(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    class Passage(Document):
        page: int = 7

    documents[0] = Passage.model_validate({"page_content": "text", "id": "passage", "page": 8})
    by_id = {document.id: document for document in documents}
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=None), documents, QUERY)
    assert {document.id for document in kept} == set(by_id)
    for document in kept:
        metadata = {k: v for k, v in document.metadata.items() if k != "relevance_score"}
        assert document.model_copy(update={"metadata": metadata}) == by_id[document.id]


async def test_nothing_that_was_given_is_changed(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    documents[1].metadata["relevance_score"] = "the retriever's"
    before = copy.deepcopy(documents)
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=None), documents, QUERY)
    for document in kept:
        assert isinstance(document.metadata["relevance_score"], float)
        kept_score = "the retriever's" if document.id == before[1].id else None
        assert document.metadata.get("retrieval_score") == kept_score
        document.metadata["new"] = 1
        document.page_content = ""
    assert documents == before


async def test_the_list_may_change_while_scores_are_awaited(
    reranker: Reranker, documents: list[Document]
) -> None:
    task = asyncio.create_task(Qwen3Rerank(reranker=reranker).acompress_documents(documents, QUERY))
    await asyncio.sleep(0)
    documents.clear()
    assert len(await task) == 3


async def test_metadata_key_names_the_score(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, metadata_key="qwen3")
    kept = await compress(adapter, documents, QUERY)
    assert len(scores_of(kept, "qwen3")) == 3
    assert all("relevance_score" not in document.metadata for document in kept)


async def test_nothing_retrieved_needs_no_engine(compress: Compress) -> None:
    with Qwen3Rerank(model="/no/such/model") as adapter:
        assert await compress(adapter, [], QUERY) == []


async def test_blank_documents_come_last_with_zero(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    found = [Document("  \n", id="blank"), *documents]
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=None), found, QUERY)
    assert (kept[-1].id, kept[-1].metadata) == ("blank", {"relevance_score": 0.0})


# The template

VALUES = st.text(st.sampled_from("ab {}%$.:!\n"), max_size=8)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(title=VALUES, section=st.none() | st.integers() | VALUES, content=VALUES)
def test_template_puts_metadata_into_the_text_literally(
    reranker: Reranker, title: str, section: object, content: str
) -> None:
    template = "{title} 100 % {{x}} {Header 1}{absent}\n{page_content}"
    document = Document(
        content, metadata={"title": title, "Header 1": section, "page_content": "not this"}
    )
    adapter = Qwen3Rerank(reranker=reranker, document_template=template)
    (kept,) = adapter.compress_documents([document], QUERY)
    written = f"{title} 100 % {{x}} {'' if section is None else section}\n{content}"
    assert scores_of([kept]) == close_to(reranker.score(QUERY, [written]))
    assert kept.page_content == content


async def test_template_decides_the_order(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    found = [
        Document("See above.", id=document.id, metadata={"about": document.page_content})
        for document in documents
    ]
    plain = await compress(Qwen3Rerank(reranker=reranker, top_n=None), found, QUERY)
    assert [document.id for document in plain] == [document.id for document in documents]
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, document_template="{about}")
    templated = await compress(adapter, found, QUERY)
    hits = reranker.rerank(QUERY, texts_of(documents))
    assert [document.id for document in templated] == [documents[hit.index].id for hit in hits]


@pytest.mark.parametrize(
    "template",
    [
        "",
        "no field",
        "{{page_content}}",
        "{page_content",
        "page_content}",
        "{}",
        "{0}",
        "{ title }",
        "{page_content.__class__}",
        "{title[0]}",
        "{title!r}",
        "{title:>10}",
        "{title:{width}}",
        "{ti{tle}}",
    ],
)
def test_template_that_cannot_be_used_is_refused_at_construction(template: str) -> None:
    with pytest.raises(ValidationError, match="document_template=") as caught:
        Qwen3Rerank(document_template=template)
    assert repr(template) in str(caught.value)


# The import


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_langchain_the_extra_is_named() -> None:
    done = run_python(
        "import sys; sys.modules['langchain_core'] = None\n"
        "from qwen3_reranker import MissingDependencyError\n"
        "try: import qwen3_reranker.langchain\n"
        "except MissingDependencyError as error: print(error)"
    )
    assert "pip install 'qwen3-reranker[langchain]'" in done.stdout, done.stderr


def test_the_import_stays_light() -> None:
    done = run_python(
        "import sys, qwen3_reranker.langchain\n"
        "heavy = {'langchain_classic', 'llama_index', 'torch', 'transformers', 'vllm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert done.stdout == "[]\n", done.stderr
