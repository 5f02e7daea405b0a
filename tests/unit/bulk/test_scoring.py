"""Rows that an engine or a server fails on: they are found, named, and set aside."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EngineError, Scores, ServerError
from qwen3_reranker.bulk import files, rerank_files

from support.bulk import CrcScorer, DyingScorer, read_bad, read_rows, relevance, write_lines
from support.scripted_server import Reply, Request, ScriptedServer, classify


class FragileScorer(CrcScorer):
    """An engine that crashes on texts with the word "crash", with all that it is computing."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[asyncio.Future[None]] = []

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        ended = asyncio.get_running_loop().create_future()
        self.running.append(ended)
        if any("crash" in text for text in texts):
            for call in self.running:
                call.set_exception(EngineError("the engine process was killed"))
            self.running = []
        else:
            await asyncio.sleep(0)  # other calls begin
            if not ended.done():
                self.running.remove(ended)
                ended.set_result(None)
        await ended
        return Scores([relevance(query, text) for text in texts], [False] * len(texts))


pairs = st.builds(
    lambda query, text: {"query": f"query {query}", "text": text},
    st.integers(0, 2),
    st.sampled_from(["a", "b", "c", "crash", "crash too"]),
)


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen3_reranker.output_files.os.fsync", lambda _: None)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@given(rows=st.lists(pairs, max_size=20), size=st.integers(60, 400))
def test_only_the_rows_that_crash_the_engine_are_set_aside(
    rows: list[dict[str, str]], size: int
) -> None:
    """Two partitions are scored at a time, and a crash fails the rows of both."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_SMALLEST_PARTITION", size)
        source, target = write_lines(Path(name, "in.jsonl"), rows), Path(name, "out")
        rerank_files(source, target, scorer=FragileScorer())
        assert read_rows(target) == [
            {**row, "score": relevance(row["query"], row["text"])}
            for row in rows
            if "crash" not in row["text"]
        ]
        bad = read_bad(target)
        assert [row["number"] for row in bad] == [
            number for number, row in enumerate(rows, 1) if "crash" in row["text"]
        ]
        assert {row["reason"] for row in bad} <= {"the engine process was killed"}


def test_a_row_that_crashes_the_engine_is_named_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"query": "q", "text": "a"}, {"query": "q", "text": "crash"}]
    source = write_lines(tmp_path / "in.jsonl", rows)
    rerank_files(source, tmp_path / "out", scorer=FragileScorer())
    assert f"row 2 of {source} cannot be scored: the engine process was killed" in caplog.text


def test_an_engine_that_scores_nothing_ends_the_run_and_names_the_row(tmp_path: Path) -> None:
    rows = [{"query": query, "text": "a"} for query in ("first", "second", "third")]
    source = write_lines(tmp_path / "in.jsonl", rows)
    with pytest.raises(EngineError, match=rf"did not start \(reached row 3 of {source}\)"):
        rerank_files(source, tmp_path / "out", scorer=DyingScorer(2))
    assert not (tmp_path / "out" / "bad.jsonl").exists()


# As vLLM 0.32 answers a request that it cannot serve.
REFUSAL = Reply(
    {"error": {"message": "invalid input", "type": "BadRequestError", "code": 400}}, 400
)


def refusing(request: Request) -> Reply:
    return REFUSAL if "forbidden" in str(request.body) else classify(request)


def test_a_row_that_a_server_refuses_is_set_aside(tmp_path: Path, server: ScriptedServer) -> None:
    """It is one of several pairs that are scored by one call."""
    server.always(refusing)
    texts = ["copy", "forbidden", "remove", "rename"]
    rows = [{"query": "copy a folder", "text": text} for text in texts]
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    summary = rerank_files(source, target, base_url=server.url)
    assert [row["text"] for row in read_rows(target)] == ["copy", "remove", "rename"]
    [bad] = read_bad(target)
    assert (bad["number"], bad["row"]) == (2, rows[1])
    assert "invalid input" in bad["reason"]
    assert (summary.rows, summary.bad_rows, summary.documents) == (4, 1, 3)


def test_a_server_that_begins_to_refuse_everything_ends_the_run(
    tmp_path: Path, server: ScriptedServer
) -> None:
    refuses = threading.Event()

    def answer(request: Request) -> Reply:
        if "forbidden" in str(request.body):
            refuses.set()
        return REFUSAL if refuses.is_set() else classify(request)

    server.always(answer)
    source = write_lines(tmp_path / "in.jsonl", [{"query": "q", "text": "forbidden"}])
    with pytest.raises(ServerError, match=rf"invalid input.*\(reached row 1 of {source}\)"):
        rerank_files(source, tmp_path / "out", base_url=server.url)
    assert not (tmp_path / "out" / "bad.jsonl").exists()
