"""Check what is installed here, from the metadata of packages; no heavy package is imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from qwen3_reranker.doctor.findings import Finding, Status, ok, problem, run_all
from qwen3_reranker.embedded.environment import InstalledEngine, installed_engine
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.embedded.nvidia import query_gpus
from qwen3_reranker.embedded.releases import check_version
from qwen3_reranker.errors import InputError, MissingDependencyError, UnsupportedVersionError
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.versions import find, installed
from qwen3_reranker.version import __version__

__all__ = ["CHECKS", "Environment", "check_environment", "find_gpus"]

Version = Callable[[str], str | None]
"""Returns the version of an installed package; None if it is not installed."""

_OLDEST_PYTHON = (3, 11)
_OLDEST_TRANSFORMERS = (4, 51)
_ENGINE_PYTHON = "engine's Python"
_VLLM = ENGINES["vllm"]


def find_gpus() -> list[str]:
    """Return the name and the memory of each NVIDIA GPU of this machine."""
    return query_gpus("name", "memory.total")


@dataclass(frozen=True)
class Environment:
    """
    The evidence about this environment.

    Attributes:
        engine: Whether an embedded engine is to be used.
        version: Returns the version of an installed package.
        gpus: The name and the memory of each GPU.
        private: The environment that `install-engine` made; None if there is none.
        python: The version of the running Python.
        engine_python: The interpreter, other than the running one and the private one, that the
            engine is configured to use; an error if it is not usable, None if there is none.
        engine_python_asked: Whether that interpreter was given for this diagnosis.
    """

    engine: bool
    version: Version
    gpus: list[str]
    private: InstalledEngine | None
    python: tuple[int, ...]
    engine_python: str | InputError | None
    engine_python_asked: bool

    @property
    def vllm(self) -> str | None:
        """The version of the vLLM in this environment."""
        versions = (self.version(name) for name in _VLLM.distributions)
        return next((version for version in versions if version is not None), None)

    @property
    def engine_elsewhere(self) -> bool:
        """Whether the embedded engine uses the packages of another environment."""
        return self.engine_python is not None or (self.vllm is None and self.private is not None)


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
    Check what is installed here.

    Args:
        engine: Whether an embedded engine is to be used.
        engine_python: The interpreter of the engine, if one was given; see `find_engine_python`.
        version: Returns the version of an installed package.
        gpus: Returns the GPUs of this machine.
        private: Returns the environment that `install-engine` made.
        python: The version of the running Python.

    Returns:
        The findings, in the order of `CHECKS`.
    """
    made = private()
    environment = Environment(
        engine=engine,
        version=version,
        gpus=gpus(),
        private=made,
        python=python,
        engine_python=_other_interpreter(engine_python, made),
        engine_python_asked=engine_python is not None,
    )
    return run_all(CHECKS, environment)


def _other_interpreter(
    asked: str | None, private: InstalledEngine | None
) -> str | InputError | None:
    try:
        python = find_engine_python(asked)
    except MissingDependencyError:
        return None
    except InputError as error:
        return error
    if python == sys.executable or (private is not None and python == str(private.python)):
        return None
    return python


def _package(_environment: Environment) -> Finding:
    return ok("environment", "qwen3-reranker", __version__)


def _python(environment: Environment) -> Finding:
    version = ".".join(map(str, environment.python))
    if environment.python < _OLDEST_PYTHON:
        return problem("environment", "Python", "python-too-old", version)
    return ok("environment", "Python", version)


def _langchain(environment: Environment) -> Finding:
    return _framework(environment, "langchain-core", "langchain")


def _llama_index(environment: Environment) -> Finding:
    return _framework(environment, "llama-index-core", "llama_index")


def _framework(environment: Environment, package: str, adapter: str) -> Finding:
    absent = f"not installed; only qwen3_reranker.{adapter} needs it"
    return ok("environment", package, environment.version(package) or absent)


def _transformers(environment: Environment) -> Finding:
    version = environment.version("transformers")
    if version is None:
        absent = "not installed; only engine='transformers' and the reference scorer need it"
        return ok("environment", "transformers", absent)
    if _minor(version) < _OLDEST_TRANSFORMERS:
        message = f"{version} does not know Qwen3 (KeyError: 'qwen3')"
        return problem("environment", "transformers", "transformers-too-old", message)
    return ok("environment", "transformers", version)


def _vllm(environment: Environment) -> Finding:
    needed = environment.engine and not environment.engine_elsewhere
    version = environment.vllm
    if version is None:
        if not needed:
            return ok(
                "environment", "vllm", "not installed; only the embedded vLLM engine needs it"
            )
        message = "not installed, so the embedded vLLM engine cannot start"
        return problem("environment", "vllm", "vllm-missing", message, status="warning")
    return _supported("vllm", version, version, "problem" if needed else "warning")


def _private_engine(environment: Environment) -> Finding | None:
    engine = environment.private
    if engine is None:
        return None
    message = f"vLLM {engine.version} ({engine.device}): {engine.python}"
    return ok("environment", "private engine environment", message)


def _engine_python(environment: Environment) -> Finding | None:
    """Check the vLLM of another interpreter that the engine is configured to use."""
    python = environment.engine_python
    if python is None:
        return None
    needed = environment.engine or environment.engine_python_asked
    status: Status = "problem" if needed else "warning"
    if isinstance(python, InputError):
        return _unusable(str(python), status)
    try:
        engine = find("vllm", python)
    except MissingDependencyError as error:
        return _unusable(str(error), status)
    if engine is None:
        return _unusable(f"{python} has no vLLM", status)
    message = f"{python} has vLLM {engine.version}"
    return _supported(_ENGINE_PYTHON, engine.version, message, status, prefix=f"{python}: ")


def _unusable(message: str, status: Status) -> Finding:
    return problem("environment", _ENGINE_PYTHON, "engine-python-unusable", message, status=status)


def _supported(
    check: str, version: str, message: str, status: Status, *, prefix: str = ""
) -> Finding:
    """Return whether the embedded engine works with a version of vLLM."""
    try:
        check_version(version)
    except UnsupportedVersionError as error:
        reason = f"{prefix}{error}"
        return problem("environment", check, "vllm-unsupported", reason, status=status)
    return ok("environment", check, message)


def _torch(environment: Environment) -> Finding:
    version = environment.version("torch")
    return ok("environment", "torch", version or "not installed; only embedded engines need it")


def _torchvision(environment: Environment) -> Finding | None:
    return _extension_of_torch(environment, "torchvision")


def _torchaudio(environment: Environment) -> Finding | None:
    return _extension_of_torch(environment, "torchaudio")


def _extension_of_torch(environment: Environment, name: str) -> Finding | None:
    """Check that an extension of torch was built for the torch that is installed."""
    version, torch = environment.version(name), environment.version("torch")
    if version is None or torch is None:
        return None
    build, torch_build = (full.partition("+")[2] for full in (version, torch))
    # On Linux the builds on PyPI are for CUDA, which their version does not show.
    if torch_build == "cpu" and build != "cpu" and sys.platform == "linux":
        message = (
            f"{name} {version} is a CUDA build, but torch {torch} is for the CPU (operator "
            "torchvision::nms does not exist)"
        )
        return problem("environment", name, "torchvision-mismatch", message)
    required = _required_torch(name)
    if required is not None and required != torch.partition("+")[0]:
        message = f"{name} {version} was built for torch {required}, but {torch} is installed"
        return problem("environment", name, "torchvision-mismatch", message)
    return ok("environment", name, version)


def _required_torch(name: str) -> str | None:
    """Return the version of torch that an extension requires."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None
    matches = (re.match(r"torch *\(?==([\w.]+)", requirement) for requirement in requirements)
    return next((match[1] for match in matches if match), None)


def _gpu(environment: Environment) -> Finding:
    if not environment.gpus:
        return ok(
            "environment", "GPU", "nvidia-smi shows none; the embedded engine would run on the CPU"
        )
    message = "; ".join(environment.gpus)
    # The packages in this environment say nothing about an engine in another one.
    build = None if environment.engine_elsewhere else _cpu_build(environment)
    if build is None:
        count = len(environment.gpus)
        if count > 1:
            message += f". An embedded engine uses one of the {count}, unless devices= names more"
        return ok("environment", "GPU", message)
    message = f"{message}, but {build} is for the CPU"
    return problem("environment", "GPU", "gpu-unused", message, status="warning")


def _cpu_build(environment: Environment) -> str | None:
    """Return the name and version of an installed package that uses no GPU."""
    name = _VLLM.cpu_distribution or ""
    version, torch = environment.version(name), environment.version("torch")
    if version is not None:
        return f"{name} {version}"
    return f"torch {torch}" if torch is not None and torch.endswith("+cpu") else None


def _minor(version: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0,)


CHECKS: tuple[Callable[[Environment], Finding | None], ...] = (
    _package,
    _python,
    _langchain,
    _llama_index,
    _transformers,
    _vllm,
    _private_engine,
    _engine_python,
    _torch,
    _torchvision,
    _torchaudio,
    _gpu,
)
"""The checks of an environment, in the order in which they run."""
