"""The command for each engine and version, and what cannot be served."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, Self

import pytest

from qwen3_reranker import (
    CheckpointError,
    EngineError,
    InputError,
    UnsupportedVersionError,
)
from qwen3_reranker.convert import convert
from qwen3_reranker.convert.quantize import NumberFormat
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.serve import Launch, compose, launch, serve, shell
from qwen3_reranker.serve.engines import EngineName
from qwen3_reranker.serve.machine import machine_environment
from qwen3_reranker.serve.options import Device, Kind
from qwen3_reranker.serve.versions import Installed

MODEL = "Qwen/Qwen3-Reranker-0.6B"
ORIGINAL = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}
FIND = "qwen3_reranker.serve.command.find"
SERVER = "qwen3_reranker.serve.server_process.Server"


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
ASCEND = OLD - {"--enable-prefix-caching"} | {"--no-enable-prefix-caching"}
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
        ("vllm-ascend", "0.9.2rc1", "causal", ASCEND | {"--task"}),
        ("vllm-ascend", "0.17.0rc1", "causal", ASCEND | {"--runner", "--chat-template"}),
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
    made = launch("acme/reranker", engine=engine, version=version, kind=kind, device="gpu")
    found = flags(made)
    assert set(found) == expected
    assert found.get("--task", "score") == "score"
    assert found.get("--runner", "pooling") == "pooling"
    assert json.loads(found.get("--hf-overrides") or "{}") == (
        ORIGINAL if "--hf-overrides" in expected else {}
    )
    assert found.get("--max-model-len", "8193") == "8193"
    assert found.get("--context-length", "8192") == "8192"
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
    vllm = launch(MODEL, version="0.32.0", device="gpu", **asked)
    assert (
        flags(vllm).items()
        >= {
            "--max-model-len": "16385",
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
    made = launch("demo", version="0.32.0", device="cpu", max_length=1024)
    found = flags(made)
    assert {"--enforce-eager", "--block-size", "--kv-cache-memory-bytes"} <= set(found)
    assert found["--distributed-executor-backend"] == "uni"
    assert made.environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    # How many cores there are is asked for where it runs.
    assert "OMP_NUM_THREADS" not in made.environment
    assert int(machine_environment(made)["OMP_NUM_THREADS"]) >= 1
    assert made.devices == 0
    old = launch("demo", version="0.20.0", device="cpu")
    assert "--enforce-eager" in flags(old)
    assert "--block-size" not in flags(old)
    assert "--no-enable-chunked-prefill" not in flags(old)
    sglang = launch("demo", engine="sglang", device="cpu")
    assert flags(sglang)["--device"] == "cpu"
    assert sglang.environment == machine_environment(sglang) == {"SGLANG_USE_CPU_ENGINE": "1"}


def test_ascend_says_why_it_caches_no_prefixes() -> None:
    notes = launch(MODEL, engine="vllm-ascend", version="0.17.0rc1").notes
    assert any("vllm-ascend#7145" in note for note in notes)
    for engine, version in (("vllm-ascend", "0.18.0rc1"), ("vllm", "0.17.0")):
        made = launch(MODEL, engine=engine, version=version, device="gpu")  # type: ignore[arg-type]
        assert "--enable-prefix-caching" in made.argv
        assert not any("vllm-ascend#" in note for note in made.notes)


@pytest.mark.parametrize("version", ["0.9.2", "0.25.0", "0.26.0", "0.33.0"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("max_length", [512, 8192, 40960])
def test_the_limit_of_a_vllm_is_a_token_above_the_longest_prompt(
    version: str, device: Device, max_length: int
) -> None:
    found = flags(launch(MODEL, version=version, device=device, max_length=max_length))
    limit = int(found["--max-model-len"] or 0)
    assert limit == max_length + 1
    # Else vLLM refuses to start: above the model's positions, and below them where each prompt
    # has to be computed in one step.
    overrides = json.loads(found["--hf-overrides"] or "")
    assert overrides.get("max_position_embeddings", 40960) >= limit
    assert ("max_position_embeddings" in overrides) == (max_length == 40960)
    step = int(found["--max-num-batched-tokens"] or 0)
    assert step >= (limit if "--no-enable-chunked-prefill" in found else 0)
    assert step >= (max_length if device == "gpu" else 0)


def test_the_positions_of_a_converted_checkpoint_are_raised_too() -> None:
    made = launch("acme/r", version="0.32.0", kind="one-label", max_length=40960)
    assert json.loads(flags(made)["--hf-overrides"] or "") == {"max_position_embeddings": 40961}


@pytest.mark.parametrize(
    ("engine", "version"), [("vllm", "0.32.0"), ("vllm-ascend", "0.18.0"), ("sglang", "0.5.23")]
)
def test_clients_that_write_the_prompt_get_no_template(engine: EngineName, version: str) -> None:
    server = launch(MODEL, engine=engine, version=version, device="gpu")
    client = launch(MODEL, engine=engine, version=version, device="gpu", template="client")
    assert server.template is not None and client.template is None
    assert set(flags(server)) - set(flags(client)) == {"--chat-template"}
    assert any("no --chat-template: for clients that write" in note for note in client.notes)


def test_what_a_checkpoint_declares_is_told_where_vllm_applies_it() -> None:
    told = [
        "sentence-transformers" in " ".join(launch(MODEL, version=v, template="client").notes)
        for v in ("0.32.0", "0.33.0")
    ]
    assert told == [False, True]


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (MODEL, {"version": "0.9.1"}, UnsupportedVersionError, r"0\.9\.1 is too old.*0\.9\.2"),
        (MODEL, {"engine": "sglang", "version": "0.4.9"}, UnsupportedVersionError, r"0\.4\.10"),
        (MODEL, {"engine": "vllm-ascend", "version": "0.8.5"}, UnsupportedVersionError, "too old"),
        (MODEL, {"version": "latest"}, InputError, "'latest' is not a version"),
        (MODEL, {"engine": "tei"}, InputError, "engine='tei': give one of"),
        (MODEL, {"device": "tpu"}, InputError, "device='tpu'"),
        (MODEL, {"engine": "vllm-ascend", "device": "cpu"}, InputError, "runs only on NPUs"),
        (MODEL, {"template": "both"}, InputError, "template='both'"),
        (MODEL, {"port": 0}, InputError, "port=0"),
        (MODEL, {"host": "a b"}, InputError, "'a b'"),
        (MODEL, {"host": "--port"}, InputError, "'--port'"),
        (MODEL, {"tensor_parallel": 0}, InputError, "tensor_parallel=0"),
        (MODEL, {"max_length": 0}, InputError, "max_length=0"),
        (MODEL, {"max_length": 50000}, CheckpointError, "50000.*40960"),
        ("demo", {"max_length": 50000}, CheckpointError, "50000"),
        ("demo", {"kind": "one-label"}, InputError, "demo is a causal checkpoint"),
        (MODEL, {"kind": "one-label"}, InputError, f"'one-label', but {MODEL} is a causal"),
        ("acme/r", {"kind": "original"}, InputError, "kind='original': give 'causal'"),
        (MODEL, {"version": "0.32.O"}, InputError, "'0.32.O' is not a version"),
        (MODEL, {"version": "0.32.0 x"}, InputError, "'0.32.0 x' is not a version"),
        (MODEL, {"dtype": "bf16"}, InputError, "dtype='bf16': give 'auto', 'bfloat16'"),
        (MODEL, {"dtype": ""}, InputError, "dtype=''"),
        ("demo", {"max_length": 73}, InputError, "max_length=73.* 73 tokens"),
        ("acme/r", {"kind": "causal", "max_length": 10}, InputError, "max_length=10"),
        (MODEL, {"extra": "--seed 7"}, InputError, r"extra='--seed 7'.*\['--seed', '7'\]"),
        ("--trust-remote-code", {"kind": "causal"}, InputError, "looks like an option"),
        ("Qwen/Qwen3-Reranker-0.6B-GGUF", {}, CheckpointError, "llama-server"),
        ("models/reranker.Q8_0.gguf", {}, CheckpointError, "llama-server"),
        (
            *("acme/reranker", {"engine": "sglang", "kind": "one-label"}),
            *(UnsupportedVersionError, "the score 1.0"),
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


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("--host", "give host= instead"),
        ("--port", "give port= instead"),
        ("--api-key", "give api_key_variable= instead"),
        ("--served-model-name", "give served_name= instead"),
        ("--served_model_name", "give served_name= instead"),
        ("--max-model-len", "give max_length= instead"),
        ("--context-length", "give max_length= instead"),
        ("--dtype", "give dtype= instead"),
        ("--device", "give device= instead"),
        ("-tp", "give tensor_parallel= instead"),
        ("--dp-size", "give data_parallel= instead"),
        ("--hf-overrides", "change config.json in the model's folder instead"),
        ("--ssl-certfile", "put a proxy with TLS in front of the server instead"),
    ],
)
@pytest.mark.parametrize("joined", [False, True])
def test_an_engine_argument_that_contradicts_the_launch_is_refused(
    argument: str, advice: str, *, joined: bool
) -> None:
    words = [f"{argument}=9000"] if joined else [argument, "9000"]
    with pytest.raises(InputError) as caught:
        launch(MODEL, extra=["--seed", "7", *words])
    assert argument in str(caught.value) and advice in str(caught.value)
    # It may be a key.
    assert "9000" not in str(caught.value)


def test_an_engine_argument_may_begin_like_one_that_is_refused() -> None:
    extra = ("--hostile=1", "--data-parallel-backend", "ray", "--dtype-of-nothing")
    assert launch(MODEL, extra=extra).argv[-4:] == list(extra)


def test_a_key_in_place_of_its_variable_is_not_repeated() -> None:
    with pytest.raises(InputError, match="api_key_variable") as caught:
        launch(MODEL, api_key_variable="sk-very-secret")
    assert "very" not in str(caught.value)


@pytest.mark.parametrize("model", ["acme/reranker", "~nobody-has-this-name/model"])
def test_a_model_that_cannot_be_read_wants_its_kind(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="give kind='causal'"):
        launch(model, version="0.32.0")
    assert launch(model, version="0.32.0", kind="one-label").kind == "one-label"


def test_gguf_in_the_name_of_a_parent_folder_says_nothing(tmp_path: Path) -> None:
    folder = convert("demo", tmp_path / "llama-gguf-work" / "qwen3").folder
    assert launch(folder).kind == "one-label"
    (folder / "model.gguf").touch()  # beside safetensors
    assert launch(folder).kind == "one-label"
    gguf = tmp_path / "weights"
    gguf.mkdir()
    (gguf / "model.gguf").touch()
    with pytest.raises(CheckpointError, match="llama-server"):
        launch(gguf)


def test_the_demo_model_is_the_bundled_one_beside_a_folder_of_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "model.gguf").touch()
    assert launch("demo").model == str(DEMO_MODEL)


@pytest.mark.parametrize("version", ["0.32", "v0.32", "0.32.0", "v0.32.0"])
def test_a_version_may_be_written_in_several_ways(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(FIND, lambda *_: Installed("vllm-cpu", "0.32.0+cpu"))
    made = launch("demo", version=version)
    assert (made.version, made.installed) == ("0.32.0+cpu", True)
    elsewhere = launch("demo", version=version, device="gpu")
    assert (elsewhere.version, elsewhere.installed) == ("0.32.0", False)
    assert "image: vllm/vllm-openai:v0.32.0\n" in compose(elsewhere).replace('"', "")
    assert not launch("demo", version="0.32.1").installed


def test_the_two_label_checkpoint_of_sglang_needs_a_bias(tmp_path: Path) -> None:
    without = convert("demo", tmp_path / "vllm", labels=2, engine="vllm").folder
    with pytest.raises(
        CheckpointError, match=r"no score\.bias.*`qwen3-reranker convert --for sglang`"
    ):
        launch(without, engine="sglang")
    made = launch(
        convert("demo", tmp_path / "sglang", labels=2, engine="sglang").folder, engine="sglang"
    )
    assert "--is-embedding" in made.argv


@pytest.mark.parametrize(
    ("engine", "version", "arguments", "says", "hides"),
    [
        (
            "vllm",
            "0.32.0",
            {"host": "0.0.0.0"},
            "no API key: anyone who can reach 0.0.0.0",
            "-len:",
        ),
        (
            "vllm",
            "0.32.0",
            {"api_key_variable": "K"},
            "does not protect /classify, /score and /rerank",
            "--hf-overrides",
        ),
        ("vllm", "0.99.0", {}, "0.99.0 is newer than", "--hf-overrides"),
        ("vllm-ascend", "0.17.0rc1", {}, "vllm-ascend#7145", "--no-enable-chunked-prefill"),
        ("sglang", "0.5.23", {"api_key_variable": "K"}, "where ps shows it", "radix cache"),
    ],
)
def test_serve_says_what_users_of_the_server_should_know(
    monkeypatch: pytest.MonkeyPatch,
    engine: EngineName,
    version: str,
    arguments: dict[str, Any],
    says: str,
    hides: str,
) -> None:
    made = launch("demo", engine=engine, version=version, device="gpu", **arguments)
    monkeypatch.setattr(SERVER, FakeServer)
    shown: list[str] = []
    with pytest.raises(EngineError):
        serve(made, show=shown.append)
    up = next(i for i, line in enumerate(shown) if " is ready after " in line)
    assert shown[0].startswith("starting ")
    assert any(says in line for line in shown[1:up]), shown
    # What each flag is for is told where the command is written down.
    assert hides in shell(made) and not any(hides in line for line in shown)


def test_serves_lines_reach_a_pipe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    received = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(received)))
    monkeypatch.setattr(SERVER, FakeServer)
    with pytest.raises(EngineError):
        serve(launch("demo"))
    assert b"is ready after" in received.getvalue()
    assert b"LlamaIndex:" in received.getvalue()


class FakeServer:
    """In the place of a server: is up at once, and ends by itself."""

    start_seconds = 0.0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def wait(self, *_: Any) -> bool:
        return True

    def check(self) -> None:
        raise EngineError("it ended")


def configure(folder: Path, ignore: list[str], **settings: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | settings
    config["quantization_config"]["ignore"] = ignore
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("number_format", ["int8", "fp8"])
def test_a_quantized_model_is_served_like_any_other(tmp_path: Path, number_format: Any) -> None:
    plain = convert("demo", tmp_path / "plain").folder
    quantized = convert("demo", tmp_path / "quantized", quantize=number_format).folder
    for version in ("0.9.2", "0.33.0"):
        settings: dict[str, Any] = {"version": version, "device": "gpu"}
        expected = launch(plain, **settings)
        made = launch(quantized, **settings)
        assert made.options == expected.options and made.warnings == expected.warnings
        # The linear layers take half as much memory, the embeddings as much as before.
        assert made.memory is not None and expected.memory is not None
        linear = 3 * 256 * (2 * 8 * 64 + 3 * 512)
        assert expected.memory.weights - made.memory.weights == linear


def test_fp8_on_a_cpu_is_slow(tmp_path: Path) -> None:
    cases: list[tuple[NumberFormat, bool]] = [("fp8", True), ("int8", False)]
    for number_format, slow in cases:
        folder = convert("demo", tmp_path / number_format, quantize=number_format).folder
        made = launch(folder, version="0.32.0", device="cpu")
        assert any("third of bf16" in warning for warning in made.warnings) == slow


def test_a_head_that_vllm_takes_for_a_quantized_one_is_not_served(tmp_path: Path) -> None:
    folder = convert("demo", tmp_path / "model", quantize="fp8").folder
    configure(folder, ["lm_head"])
    with pytest.raises(CheckpointError, match=r"does not exempt the head.*--quantize"):
        launch(folder, version="0.33.0")


def test_a_quantized_original_needs_vllm_0_18(tmp_path: Path) -> None:
    folder = convert("demo", tmp_path / "model", quantize="fp8").folder
    configure(folder, ["lm_head"], architectures=["Qwen3ForCausalLM"])
    assert launch(folder, version="0.18.0").kind == "causal"
    with pytest.raises(UnsupportedVersionError, match=r"0\.17\.1 also quantizes.*0\.18 or later"):
        launch(folder, version="0.17.1")
    configure(folder, ["lm_head", "score"])
    assert launch(folder, version="0.17.1").kind == "causal"
