"""The engine process: what is said, what is refused, and the model's files."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import CheckpointError, InputError, Reranker, event_loop
from qwen3_reranker.embedded.scorer import EmbeddedScorer
from qwen3_reranker.model.probability import sigmoid

from support.engine_processes import (
    BARE_LOGGER,
    TEXTS,
    MakePython,
    MakeReranker,
    children,
    engine_of,
    expected,
    process_of,
    wait_until,
)
from support.helpers import either

pytestmark = pytest.mark.slow

# What is said, and what is refused


@pytest.mark.parametrize("settings", [{}, {"quiet": True}, {"variable": True}])
def test_a_slow_start_is_announced_once(
    make_reranker: MakeReranker,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    settings: dict[str, bool],
) -> None:
    if settings.pop("variable", False):
        monkeypatch.setenv("QWEN3_RERANKER_QUIET", "1")
    monkeypatch.setattr("qwen3_reranker.embedded.progress.NOTICE_DELAY", 1.5)
    monkeypatch.setattr("qwen3_reranker.embedded.progress._logger", BARE_LOGGER)
    slow = {"FAKE_VLLM_IMPORT_SECONDS": "3"}
    reranker = make_reranker(variables=slow, **{"quiet": False, **settings})
    reranker.warm_up()
    reranker.score("q", TEXTS)
    err = capfd.readouterr().err
    if settings or os.environ.get("QWEN3_RERANKER_QUIET"):
        assert err == ""
    else:
        # The version is known as soon as the process runs.
        assert re.match(r"starting vLLM (0\.32\.0 )?for demo; the first start compiles for", err)
        assert len(err.splitlines()) == 1


def test_a_slow_start_is_logged_where_logging_is_configured(
    make_reranker: MakeReranker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("qwen3_reranker.embedded.progress.NOTICE_DELAY", 1.5)
    caplog.set_level("INFO", "qwen3_reranker")
    make_reranker(variables={"FAKE_VLLM_IMPORT_SECONDS": "3"}, quiet=False).warm_up()
    notices = [record.message for record in caplog.records if record.name == "qwen3_reranker"]
    assert [notice[:14] for notice in notices] == ["starting vLLM "]
    assert capfd.readouterr().err == ""


def test_warm_up_shows_the_stages(
    make_reranker: MakeReranker, capfd: pytest.CaptureFixture[str]
) -> None:
    make_reranker().warm_up(progress=True)
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["qwen3-reranker: importing vLLM", "qwen3-reranker: ready"]


@pytest.mark.parametrize("method", ["warm_up", "awarm_up"])
async def test_warm_up_reports_the_stages_to_a_function(
    make_reranker: MakeReranker, capfd: pytest.CaptureFixture[str], method: str
) -> None:
    stages: list[str] = []
    await either(method)(make_reranker(), progress=stages.append)
    assert stages == ["import", "ready"]
    assert capfd.readouterr().err == ""


def test_a_model_that_is_no_reranker_is_refused(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(check=True, engine_args={"same_logit": 0.25})
    for _ in range(2):  # the second time without a start
        with pytest.raises(CheckpointError, match=r"does not score as a Qwen3.*check=False"):
            reranker.score("q", TEXTS)
    assert not children()
    other = make_reranker(check=False, engine_args={"same_logit": 0.25})
    assert other.score("q", ["a"]) == [sigmoid(0.25)]


def test_a_refused_model_is_tried_again_when_its_files_have_changed(
    make_python: MakePython, tmp_path: Path
) -> None:
    from support.checkpoints import copy_demo

    folder = copy_demo(tmp_path / "model")
    args = {"same_logit": 0.25}
    with Reranker(str(folder), engine_python=make_python(), engine_args=args) as reranker:
        for start in (True, False):
            stages: list[str] = []
            with pytest.raises(CheckpointError, match="does not score"):
                event_loop.run(engine_of(reranker).start(on_stage=stages.append))
            assert bool(stages) == start
        os.utime(folder / "model.safetensors", (1, 1))
        with pytest.raises(CheckpointError, match="does not score"):
            event_loop.run(engine_of(reranker).start(on_stage=stages.append))
        assert stages


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine_args": {"dtype": object()}}, r"engine_args\['dtype'\] is a object"),
        ({"engine_args": "dtype"}, "engine_args is a str: give a mapping"),
        (
            {"engine_args": {"hf_token": b"hf_x"}},
            r"engine_args\['hf_token'\] is a bytes: give a str",
        ),
        ({"engine_args": {"hf_overrides": "x"}}, r"engine_args\['hf_overrides'\] is a str: give a"),
        ({"engine_args": {"max_model_len": "16k"}}, "max_model_len='16k': give a whole number"),
        ({"engine_args": {"max_num_batched_tokens": True}}, "max_num_batched_tokens=True: give a"),
        (
            {"engine_args": {"tensor_parallel_size": 0}, "devices": [0]},
            "tensor_parallel_size=0: give a whole number of at least 1",
        ),
        ({"engine_args": {"pipeline_parallel_size": 1.5}}, "pipeline_parallel_size=1.5: give a"),
        ({"timeout": 0.5}, "timeout=0.5: give a finite number of seconds, 1 or more"),
        ({"timeout": math.inf}, "timeout=inf: give a finite number of seconds, 1 or more"),
        ({"timeout": math.nan}, "timeout=nan: give a finite number of seconds, 1 or more"),
        (
            {"base_url": "http://x", "check": False, "quiet": True},
            "only an embedded engine can use check=, quiet=",
        ),
    ],
)
def test_arguments_that_cannot_be_used(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Reranker("demo", **settings)


def test_arguments_that_are_none_are_those_left_out() -> None:
    names = ("max_model_len", "tensor_parallel_size", "data_parallel_size", "hf_overrides", "dtype")
    with (
        Reranker("demo", engine_args=dict.fromkeys((*names, "hf_token"))) as reranker,
        Reranker("demo") as other,
    ):
        assert engine_of(reranker) is engine_of(other)


def test_a_prompt_that_is_too_short_for_the_check_is_said_to_be(
    make_reranker: MakeReranker,
) -> None:
    reranker = make_reranker(check=True, max_length=71)
    with pytest.raises(InputError, match=r"max_length=71 .* the check.* 104 tokens.*check=False"):
        reranker.rerank("q", ["a"])
    other = make_reranker(max_length=71)
    assert other.score("q", ["a"]) == expected(other, "q", ["a"])


# The model's files


def test_a_folder_keeps_its_meaning_after_chdir(
    make_python: MakePython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.checkpoints import copy_demo

    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}
    rerankers = []
    for name in ("one", "two"):
        copy_demo(tmp_path / name / "model")
        monkeypatch.chdir(tmp_path / name)
        rerankers.append(Reranker("model", **settings))
    first, second = rerankers
    assert engine_of(first) is not engine_of(second)
    for reranker in rerankers:
        reranker.close()


def test_an_interpreter_is_the_one_at_construction(
    make_python: MakePython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    python = f"./{Path(make_python()).name}"
    with Reranker("demo", check=False, engine_python=python, quiet=True) as reranker:
        monkeypatch.chdir("/")
        reranker.warm_up()


def test_a_new_start_reads_the_files_anew(make_python: MakePython, tmp_path: Path) -> None:
    from support.checkpoints import copy_demo

    folder = copy_demo(tmp_path / "model")
    settings: dict[str, Any] = {"check": False, "engine_python": make_python()}
    scorer = EmbeddedScorer(str(folder), **settings)
    with Reranker(scorer=scorer) as reranker:
        before = event_loop.run(scorer.fingerprint())
        os.utime(folder / "model.safetensors", (1, 1))
        changed = event_loop.run(scorer.fingerprint())
        assert changed != before  # nothing runs yet
        reranker.warm_up()
        os.utime(folder / "model.safetensors", (2, 2))
        assert event_loop.run(scorer.fingerprint()) == changed  # what the engine has
        process_of(reranker).kill()
        wait_until(lambda: engine_of(reranker).running.client.reason)
        anew = event_loop.run(scorer.fingerprint())
        assert anew not in (before, changed)  # what it would load now
        reranker.score("q", ["a"])
        assert event_loop.run(scorer.fingerprint()) == anew
