"""What the page scores, and how it reports that scoring failed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import typer

from qwen3_reranker import Reranker, ServerError
from qwen3_reranker.cli.app import app
from qwen3_reranker.cli.flags import page_messages
from qwen3_reranker.playground import ranking
from qwen3_reranker.playground.documents import documents_of
from qwen3_reranker.playground.events import run
from qwen3_reranker.playground.inputs import Inputs
from qwen3_reranker.playground.models import Models
from qwen3_reranker.playground.progress import Progress
from qwen3_reranker.playground.ranking import rank

from support.playground import INPUTS, PageScorer, rerankers


async def test_equal_documents_are_scored_once_however_far_apart() -> None:
    scorer = PageScorer()
    documents = [f"copy {number % 100}" for number in range(250)]
    inputs = Inputs(query="copy a folder", text="\n\n".join(documents))
    result = await rank(inputs, Models.of(rerankers(scorer)), Progress())
    scored = [text for _, texts, _ in scorer.calls for text in texts]
    assert sorted(scored) == sorted(set(documents))
    hits, usage = result.rankings[0].hits, result.rankings[0].usage
    assert sorted((hit.index, hit.text) for hit in hits) == list(enumerate(documents))
    assert (usage.queries, usage.documents, usage.scored) == (1, 250, 100)
    with Reranker(scorer=scorer) as reranker:
        assert hits == reranker.rerank("copy a folder", documents)


async def test_documents_are_not_read_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # A large file takes seconds, in which a gateway beside the page would answer nobody.
    threads: list[threading.Thread] = []

    def noted(inputs: Inputs) -> list[str]:
        threads.append(threading.current_thread())
        return documents_of(inputs)

    monkeypatch.setattr(ranking, "documents_of", noted)
    await rank(INPUTS, Models.of(rerankers(PageScorer())), Progress())
    assert threads and threading.current_thread() not in threads


@pytest.mark.parametrize(
    ("command", "option"), [("playground", "--api-key"), ("gateway", "--upstream-api-key")]
)
async def test_errors_name_the_options_of_the_command(command: str, option: str) -> None:
    group: Any = typer.main.get_command(app)
    context = typer.Context(group.commands[command], parent=typer.Context(group))
    scorer = PageScorer()
    scorer.error = ServerError("no key: give api_key= or lower top_n=3", status=401)
    models = Models.of(rerankers(scorer), page_messages(context))
    *_, last = [update async for update in run(INPUTS, models, has_result=False)]
    # The page itself has a field top_n.
    assert f"No key: give {option} or lower top_n=3" in last.message
