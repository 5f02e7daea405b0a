"""
Found by Python at start when its folder is on PYTHONPATH: stands in for what SGLang cannot have.

SGLang imports its compiled kernels and torchvision wherever it runs. The first exist for GPUs and
for CPUs with AMX, and the second comes in a CUDA build that a CPU torch cannot load. A text model
on a CPU calls neither, so modules that are empty until somebody uses them are enough.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

# With its submodules, or without: those of the kernels SGLang tries, and it has its own instead.
ABSENT = {"torchvision": True, "sgl_kernel": False}


class _Stand(type):
    """The type of classes that stand for a module's: constants such as an enum's read as 0."""

    def __getattr__(cls, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0


def _stand_in(module: str, name: str) -> Any:
    """A class for a name that looks like one, to be named in annotations; else a function."""
    if name[:1].isupper():
        return _Stand(name, (), {"__module__": module})

    def absent(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(f"{module}.{name} was called, and here {module} is a stand-in")

    return absent


class _Absent(MetaPathFinder, Loader):
    """Finds the absent modules and whatever they would hold."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parts = ABSENT.get(fullname.partition(".")[0])
        return None if parts is None else ModuleSpec(fullname, self, is_package=parts)

    def exec_module(self, module: ModuleType) -> None:
        def look_up(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            # Kept, for the same name must be the same class each time.
            return vars(module).setdefault(name, _stand_in(module.__name__, name))

        vars(module).update(__version__="0.0.0", __getattr__=look_up)


# Behind the others: where the real modules are installed, they are taken.
sys.meta_path.append(_Absent())
