"""What is logged of an engine's start, its end and its failures."""

from __future__ import annotations

import logging

import pytest

from qwen3_reranker import RerankerError

from support.engine_processes import TEXTS, MakeReranker, process_of, wait_until
from support.log_records import Records

pytestmark = pytest.mark.slow


def test_an_engines_life_is_logged(make_reranker: MakeReranker, log: Records) -> None:
    with make_reranker() as reranker:
        reranker.warm_up()
        first, second = log.loud
        assert first == "starting vLLM for demo"
        assert second.startswith("started vLLM 0.32.0 on cpu, ")
        assert second.endswith(" s")
        log.records.clear()
        reranker.score("query", TEXTS)
        assert log.loud == []
        process = process_of(reranker)
        process.kill()
        wait_until(lambda: log.records and log.loud)
        [died] = log.loud
        assert died.startswith(f"engine process {process.pid} has ended: the engine process was ki")
        log.records.clear()
        reranker.warm_up()
        log.records.clear()
    assert log.loud == [f"stopped {second.partition('started ')[2].partition(' for ')[0]} for demo"]


def test_a_failed_start_is_logged(make_reranker: MakeReranker, log: Records) -> None:
    reranker = make_reranker(check=True, engine_args={"same_logit": 0.25})
    with pytest.raises(RerankerError):
        reranker.warm_up()
    assert log.messages(logging.WARNING)[-1].startswith(
        "vLLM did not start for demo: demo does not score as a Qwen3 reranker"
    )


def test_an_access_token_is_not_logged(make_reranker: MakeReranker, log: Records) -> None:
    token = "hf_aBcDeFgHiJkL"
    reranker = make_reranker(engine_args={"refuse": f"no access with {token}", "hf_token": token})
    with pytest.raises(RerankerError):
        reranker.warm_up()
    assert [message for message in log.loud if "no access with ***" in message]
    assert not [record for record in log.records if token in repr(vars(record))]
