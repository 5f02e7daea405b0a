"""
The Python standard library as a collection: one document a module, class, function or method.

Every machine with Python has these texts, so the examples need no download. A document is
the object's name, its signature where Python knows it, and its docstring.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# What acts when imported, programs and test suites, what only Windows has, the codecs' tables,
# os.path under its other names, and what Python 3.12 and 3.13 removed: without these the
# collection is nearly the same on every supported Python.
_SKIPPED = set(
    """
    __main__ antigravity ensurepip idlelib lib2to3 pydoc pydoc_data test this tkinter turtle
    turtledemo venv
    msilib msvcrt nt winreg winsound
    encodings
    genericpath ntpath nturl2path posix posixpath
    aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp mailcap nis nntplib
    pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Doc:
    """One documented object: `name` is its dotted name, as users write it ("os.path.join")."""

    name: str
    module: str
    text: str


def load() -> list[Doc]:
    """Return the documents of the running Python's standard library, sorted by name."""
    found: dict[str, Doc] = {}
    seen: set[int] = set()
    # Short names first: asyncio.run is known as that, not as asyncio.runners.run.
    modules = [*_modules(), ("os.path", os.path)]
    for path, module in sorted(modules, key=lambda item: (item[0].count("."), item[0])):
        for name, member in [("", module), *_public(module)]:
            _add(found, seen, path, name, member)
            if inspect.isclass(member) and member.__module__ != "typing":
                for attribute, value in sorted(vars(member).items()):
                    if not attribute.startswith("_"):
                        function = getattr(value, "__func__", value)
                        _add(found, seen, path, f"{name}.{attribute}", function)
    return sorted(found.values(), key=lambda doc: doc.name)


def _modules() -> list[tuple[str, ModuleType]]:
    names = [n for n in sys.stdlib_module_names if not n.startswith("_") and n not in _SKIPPED]
    modules = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted(names):
            try:
                module = importlib.import_module(name)
                modules.append((name, module))
                modules.extend(
                    (sub.name, importlib.import_module(sub.name))
                    for sub in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}.")
                    if "._" not in sub.name and ".test" not in sub.name
                )
            except ImportError:  # another platform's
                continue
    return modules


def _public(module: ModuleType) -> list[tuple[str, Any]]:
    names = getattr(module, "__all__", None)
    members = vars(module)
    if names is None:
        root = module.__name__.partition(".")[0].lstrip("_")
        names = [
            name
            for name, value in members.items()
            if not name.startswith("_")
            and not inspect.ismodule(value)
            and (getattr(value, "__module__", None) or root).partition(".")[0].lstrip("_") == root
        ]
    return sorted((name, members[name]) for name in names if name in members)


def _add(found: dict[str, Doc], seen: set[int], module: str, name: str, value: Any) -> None:
    documented = inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value)
    if isinstance(value, property):
        documented = True
    if not documented or id(value) in seen:
        return
    docstring = getattr(value, "__doc__", None)
    if not isinstance(docstring, str) or len(docstring) < 20:
        return
    docstring = inspect.cleandoc(docstring)
    seen.add(id(value))
    full = f"{module}.{name}" if name else module
    full = full.removeprefix("builtins.")
    text = f"{full}{_signature(value)}\n\n{docstring}"
    found.setdefault(full, Doc(full, module, text))


def _signature(value: Any) -> str:
    if not inspect.isroutine(value):
        return ""
    try:
        signature = str(inspect.signature(value))
    except (ValueError, TypeError, AttributeError):
        return ""
    # Addresses differ from run to run, and the documents must not.
    return re.sub(r" at 0x[0-9a-f]+", "", signature)
