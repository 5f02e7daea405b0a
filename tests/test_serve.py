"""The command for each engine and version, and what cannot be served."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import (
    CheckpointError,
    InputError,
    MissingDependencyError,
    UnsupportedVersionError,
)
from qwen3_reranker.checkpoint import DEMO_MODEL
from qwen3_reranker.deploy.convert import convert
from qwen3_reranker.deploy.options import Kind
from qwen3_reranker.deploy.serve import Launch, Server, launch
from qwen3_reranker.deploy.versions import EngineName, Found, find

MODEL = "Qwen/Qwen3-Reranker-0.6B"
ORIGINAL = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}

# The function of that name hides the module.
LAUNCH = import_module("qwen3_reranker.deploy.launch")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.delenv("SGLANG_API_KEY", raising=False)


def flags(made: Launch) -> dict[str, str | None]:
    """The flags of a command, with their values."""
    return {
        group[0]: group[1] if len(group) > 1 else None
        for group in made.command()
        if group[0].startswith("--")
    }


VLLM = {
    "--host",
    "--port",
    "--max-model-len",
    "--max-num-batched-tokens",
    "--enable-prefix-caching",
}
OLD = VLLM | {"--hf-overrides", "--no-enable-chunked-prefill"}
SGLANG = {"--host", "--port", "--context-length"}


@pytest.mark.parametrize(
    ("engine", "version", "kind", "expected"),
    [
        ("vllm", "0.9.2", "causal", OLD | {"--task"}),
        ("vllm", "v0.10.0", "causal", OLD | {"--task"}),
        ("vllm", "0.10.1", "causal", OLD | {"--runner"}),
        ("vllm", "0.10.1.1", "one-label", OLD - {"--hf-overrides"} | {"--runner"}),
        ("vllm", "0.13.0", "causal", OLD | {"--runner"}),
        ("vllm", "0.14.0", "causal", OLD | {"--runner", "--chat-template"}),
        ("vllm", "0.25.1", "two-label", OLD - {"--hf-overrides"} | {"--runner"}),
        ("vllm", "0.26.0", "causal", VLLM | {"--runner", "--chat-template", "--hf-overrides"}),
        ("vllm", "0.33.1rc1+cu130", "one-label", VLLM | {"--runner", "--chat-template"}),
        ("vllm", "1.0", "two-label", VLLM | {"--runner"}),
        ("vllm-ascend", "0.9.2rc1", "causal", OLD | {"--task"}),
        ("vllm-ascend", "0.18.0", "causal", OLD | {"--runner", "--chat-template"}),
        ("sglang", "0.4.10", "causal", SGLANG),
        ("sglang", "0.5.5.post3", "causal", SGLANG),
        ("sglang", "0.5.6", "causal", SGLANG | {"--chat-template"}),
        ("sglang", "0.5.23", "two-label", SGLANG | {"--is-embedding"}),
    ],
)
def test_the_flags_of_a_version(
    engine: EngineName, version: str, kind: Kind, expected: set[str]
) -> None:
    made = launch("acme/reranker", engine=engine, version=version, kind=kind, cpu=False)
    found = flags(made)
    assert set(found) == expected
    assert found.get("--task", "score") == "score"
    assert found.get("--runner", "pooling") == "pooling"
    assert json.loads(found.get("--hf-overrides") or "{}") == (
        ORIGINAL if "--hf-overrides" in expected else {}
    )
    assert found.get("--max-model-len", found.get("--context-length")) == "8192"
    assert made.model in made.argv


def test_what_is_asked_for_is_in_the_command() -> None:
    asked: dict[str, Any] = {
        "max_length": 16384,
        "dtype": "bfloat16",
        "tensor_parallel": 2,
        "data_parallel": 3,
        "served_name": "reranker",
        "host": "0.0.0.0",
        "port": 9000,
        "extra": ("--gpu-memory-utilization", "0.3", "--enforce-eager"),
    }
    vllm = launch(MODEL, version="0.32.0", cpu=False, **asked)
    assert (
        flags(vllm).items()
        >= {
            "--max-model-len": "16384",
            "--max-num-batched-tokens": "16384",
            "--dtype": "bfloat16",
            "--tensor-parallel-size": "2",
            "--data-parallel-size": "3",
            "--served-model-name": "reranker",
            "--host": "0.0.0.0",
            "--port": "9000",
            "--gpu-memory-utilization": "0.3",
            "--enforce-eager": None,
        }.items()
    )
    assert vllm.argv[-3:] == ["--gpu-memory-utilization", "0.3", "--enforce-eager"]
    assert (vllm.devices, vllm.served_name) == (6, "reranker")
    assert vllm.url == "http://127.0.0.1:9000"
    sglang = flags(launch(MODEL, engine="sglang", **asked))
    assert (sglang["--tp-size"], sglang["--dp-size"]) == ("2", "3")
    assert sglang["--context-length"] == "16384"


def test_a_cpu_gets_its_own_flags_and_variables() -> None:
    made = launch("demo", version="0.32.0", cpu=True, max_length=1024)
    found = flags(made)
    assert {"--enforce-eager", "--block-size", "--kv-cache-memory-bytes"} <= set(found)
    assert found["--distributed-executor-backend"] == "uni"
    assert made.environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert made.devices == 0
    old = launch("demo", version="0.20.0", cpu=True)
    assert "--enforce-eager" in flags(old)
    assert "--block-size" not in flags(old)
    assert "--no-enable-chunked-prefill" not in flags(old)
    sglang = launch("demo", engine="sglang", cpu=True)
    assert flags(sglang)["--device"] == "cpu"
    assert sglang.environment == {"SGLANG_USE_CPU_ENGINE": "1"}


def test_the_installed_version_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    here = find("vllm")
    assert here is not None
    made = launch("demo")
    assert (made.version, made.installed) == (here.version, True)
    assert made.program[0].startswith(str(Path(sys.executable).parent))
    # Another version than the one that is here cannot be started here.
    other = launch("demo", version="0.20.0")
    assert not other.installed
    with pytest.raises(MissingDependencyError, match=r"vllm 0\.20\.0 is not installed"):
        Server(other)

    monkeypatch.setattr(LAUNCH, "find", lambda *_: None)
    nowhere = launch("demo", cpu=False)
    assert nowhere.version == "0.33.0"
    assert nowhere.program == ("vllm", "serve")
    assert "no vllm is installed here" in nowhere.notes[0]


@pytest.mark.parametrize("distribution", ["vllm", "vllm-cpu"])
def test_the_console_script_is_vllms_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, distribution: str
) -> None:
    script = tmp_path / "bin/vllm"
    script.parent.mkdir()
    script.touch()
    python = str(script.with_name("python"))
    monkeypatch.setattr(LAUNCH, "find", lambda *_: Found(distribution, "0.32.0"))
    made = launch("demo", python=python)
    if distribution == "vllm":
        assert made.argv[:3] == [str(script), "serve", str(DEMO_MODEL)]
        assert made.devices == 1
    else:
        assert made.argv[:4] == [
            *(python, "-m", "vllm.entrypoints.openai.api_server", "--model"),
        ]
        assert made.devices == 0


def test_another_python_is_asked() -> None:
    assert find("vllm", sys.executable) == find("vllm")
    # The same interpreter under a name that it does not know itself by.
    assert find("vllm", str(Path(sys.executable).with_name("python"))) == find("vllm")
    assert find("sglang", sys.executable) is None
    with pytest.raises(MissingDependencyError, match="/nowhere/python"):
        find("vllm", "/nowhere/python")


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (MODEL, {"version": "0.9.1"}, UnsupportedVersionError, r"0\.9\.1 is too old.*0\.9\.2"),
        (MODEL, {"engine": "sglang", "version": "0.4.9"}, UnsupportedVersionError, r"0\.4\.10"),
        (MODEL, {"engine": "vllm-ascend", "version": "0.8.5"}, UnsupportedVersionError, "too old"),
        (MODEL, {"version": "latest"}, InputError, "'latest' is no version"),
        (MODEL, {"engine": "tei"}, InputError, "'tei' is none of"),
        (MODEL, {"port": 0}, InputError, "port=0"),
        (MODEL, {"host": "a b"}, InputError, "'a b'"),
        (MODEL, {"host": "--port"}, InputError, "'--port'"),
        (MODEL, {"tensor_parallel": 0}, InputError, "tensor_parallel=0"),
        (MODEL, {"max_length": 0}, InputError, "max_length=0"),
        (MODEL, {"max_length": 50000}, CheckpointError, "50000.*40960"),
        ("demo", {"max_length": 50000}, CheckpointError, "50000"),
        ("demo", {"kind": "one-label"}, InputError, "demo is a causal checkpoint"),
        ("--trust-remote-code", {"kind": "causal"}, InputError, "taken for an option"),
        ("Qwen/Qwen3-Reranker-0.6B-GGUF", {}, CheckpointError, "llama-server"),
        ("models/reranker.Q8_0.gguf", {}, CheckpointError, "llama-server"),
        (
            *("acme/reranker", {"engine": "sglang", "kind": "one-label"}),
            *(UnsupportedVersionError, "1.0 to everything"),
        ),
        (
            *("acme/r", {"engine": "sglang", "kind": "two-label", "version": "0.5.3"}),
            *(UnsupportedVersionError, "/v1/classify"),
        ),
    ],
)
def test_what_cannot_be_served_is_refused(
    model: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        launch(model, **arguments)


def test_a_key_in_place_of_its_variable_is_not_repeated() -> None:
    with pytest.raises(InputError, match="api_key_variable") as caught:
        launch(MODEL, api_key_variable="sk-very-secret")
    assert "very" not in str(caught.value)


def test_a_hub_name_that_cannot_be_read_wants_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="say kind='causal'"):
        launch("acme/reranker", version="0.32.0")
    assert launch("acme/reranker", version="0.32.0", kind="one-label").kind == "one-label"


def test_the_two_label_checkpoint_of_sglang_needs_a_bias(tmp_path: Path) -> None:
    without = convert("demo", tmp_path / "vllm", labels=2, engine="vllm").folder
    with pytest.raises(CheckpointError, match=r"no score\.bias"):
        launch(without, engine="sglang")
    made = launch(
        convert("demo", tmp_path / "sglang", labels=2, engine="sglang").folder, engine="sglang"
    )
    assert "--is-embedding" in made.argv
