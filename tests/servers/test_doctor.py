"""The doctor at real servers: the healthy are healthy, and what was broken on purpose is named."""

from __future__ import annotations

from typing import Any

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.doctor import adiagnose, diagnose
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.serve.versions import find

from support.doctor_servers import finding_of, problems
from support.helpers import SETTINGS
from support.servers.fixtures import SERVED
from support.servers.litellm_servers import MODEL
from support.servers.processes import MAX_LENGTH, Server

_INSTALLED = find("vllm", find_engine_python(None))
assert _INSTALLED is not None
# What the fixtures' servers answer to /version.
VLLM = f"vLLM {_INSTALLED.version}"


@pytest.mark.parametrize(
    ("server", "kind", "endpoint"),
    [
        ("vllm_original", VLLM, "vllm-classify at /classify"),
        ("vllm_template", VLLM, "vllm-classify at /classify"),
        ("vllm_one_label", VLLM, "vllm-classify at /classify"),
        ("sglang_causal", "SGLang 0.5.23", "sglang-score at /v1/score"),
        ("sglang_two_label", "SGLang 0.5.23", "sglang-classify at /v1/classify"),
    ],
    indirect=["server"],
)
def test_healthy_servers(server: Server, kind: str, endpoint: str) -> None:
    report = diagnose(server.url)
    assert report.healthy, report
    assert not report.codes - {"control-tokens"}, report
    assert finding_of(report, "kind").message == kind
    assert finding_of(report, "endpoint").message == endpoint
    # `serve` gives vLLM a limit one token above the longest prompt.
    served = server.log_path.stem in ("vllm_original", "vllm_template")
    limit = MAX_LENGTH + 1 if served else MAX_LENGTH
    assert f"accepts {limit} tokens" in finding_of(report, "model").message
    for check in ("template", "order", "instruction", "truncation", "determinism", "latency"):
        assert finding_of(report, check).status == "ok", report
    if server.served == str(DEMO_MODEL):
        assert finding_of(report, "golden pairs").status == "ok", report


@pytest.mark.parametrize(
    ("server", "options"),
    [
        ("vllm_original", {"dialect": "vllm-score", "template": "client"}),
        ("vllm_original", {"dialect": "vllm-rerank"}),
        ("vllm_template", {"dialect": "vllm-score", "template": "server"}),
        ("sglang_causal", {"dialect": "sglang-rerank"}),
        ("sglang_causal", {"dialect": "completions"}),
        ("litellm", {"model": MODEL, "api_key": None}),
    ],
    indirect=["server"],
)
def test_other_correct_settings(server: Server, options: dict[str, Any]) -> None:
    report = diagnose(server.url, **{**options, "api_key": server.key or None})
    assert report.healthy, report
    assert finding_of(report, "template").status == "ok", report


def test_texts_without_a_template(vllm_original: Server) -> None:
    report = diagnose(vllm_original.url, dialect="vllm-score", template="server")
    assert problems(report) == {"template-missing"}, report
    report = diagnose(vllm_original.url, template="server")
    assert problems(report) == {"template-missing"}, report


def test_a_template_around_written_prompts(vllm_template: Server) -> None:
    report = diagnose(vllm_template.url, dialect="vllm-score", template="client")
    assert problems(report) == {"template-twice"}, report
    report = diagnose(f"{vllm_template.url}/v1/rerank", template="client")
    assert problems(report) == {"template-twice"}, report


def test_a_template_that_loses_its_newline(vllm_newline_lost: Server) -> None:
    report = diagnose(vllm_newline_lost.url, dialect="vllm-rerank", template="server")
    assert problems(report) == {"newline-lost"}, report
    report = diagnose(vllm_newline_lost.url)
    assert report.healthy, report
    assert finding_of(report, "other endpoints").code == "newline-lost", report


def test_prompts_that_are_cut_in_silence(vllm_generate: Server) -> None:
    report = diagnose(vllm_generate.url)
    assert finding_of(report, "truncation").code == "suffix-cut", report
    assert report.healthy, report  # this client cuts documents itself


def test_labels_in_another_order_than_asked_for(sglang_two_label: Server) -> None:
    report = diagnose(sglang_two_label.url, dialect="sglang-score")
    assert problems(report) == {"labels-inverted"}, report


async def test_keys_and_a_model_under_another_name(vllm_key: Server) -> None:
    report = await adiagnose(vllm_key.url, dialect="vllm-score", api_key="a-wrong-key")
    assert problems(report) == {"key-refused"}, report
    report = await adiagnose(vllm_key.url, api_key=vllm_key.key)
    assert problems(report) == {"golden-mismatch"}, report
    assert SERVED in finding_of(report, "golden pairs").message
    assert vllm_key.key not in str(report.as_dict())


def test_a_model_in_the_embedded_engine(reranker: Reranker) -> None:
    reranker.warm_up()
    report = diagnose("demo", engine_args=SETTINGS["engine_args"])
    assert report.healthy, report
    assert finding_of(report, "checkpoint").message.startswith("causal, accepts 8192 tokens")
    assert finding_of(report, "order").status == "ok"
    assert finding_of(report, "golden pairs").status == "ok", report
