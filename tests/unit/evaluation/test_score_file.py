"""The file of scores: what is stored comes back, and a wrong file is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError, Reranker
from qwen3_reranker.caching import ScoreCache
from qwen3_reranker.evaluation import ScoreFile
from qwen3_reranker.evaluation.score_file import default_score_file

from support.evaluation import WordScorer


@given(st.floats(0, 1), st.booleans(), st.floats(allow_nan=False))
def test_a_score_comes_back_exactly(score: float, cut: bool, logit: float) -> None:
    with ScoreFile(":memory:") as file:
        assert isinstance(file, ScoreCache) and file.get("key") is None
        file["key"] = (score, cut, logit)
        assert file.get("key") == (score, cut, logit) and len(file) == 1
        file["key"] = (score, not cut, -math.inf)
        assert file.get("key") == (score, not cut, -math.inf) and len(file) == 1


def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "scores"
    with ScoreFile(path) as one, ScoreFile(path) as other:
        one["a"] = (0.5, False, 0.0)
        other["b"] = (0.25, True, -1.0)
        assert one.get("b") == (0.25, True, -1.0) and other.get("a") == (0.5, False, 0.0)


def test_a_reranker_takes_it_as_its_cache(tmp_path: Path) -> None:
    for asked in (2, 0):
        with ScoreFile(tmp_path / "scores") as file:
            scorer = WordScorer()
            with Reranker(scorer=scorer, cache=file) as reranker:
                assert reranker.score("a b", ["a", "b b"]) == [0.5, 0.5]
        assert len(scorer.asked) == asked


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("not a database, but long enough to be read as one" * 20)
    with pytest.raises(InputError, match=r"cache='.*notes' cannot be used as a file of scores"):
        ScoreFile(tmp_path / "notes")
    with pytest.raises(InputError, match="cannot be used as a file of scores"):
        ScoreFile(tmp_path)
    with pytest.raises(InputError, match="cannot be used as a file of scores"):
        ScoreFile(tmp_path / "notes" / "scores")


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise there would be a folder with the name "~"."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    with ScoreFile("~/scores.sqlite3") as file:
        file["key"] = (0.5, False, 0.0)
    assert (tmp_path / "scores.sqlite3").is_file()
    assert not [*Path().iterdir()]


def test_closing_twice_is_allowed(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path / "scores")
    file.close()
    file.close()


def test_the_default_file_is_in_the_users_folder_for_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_score_file().name == "evaluation-scores.sqlite3"
