"""The order and the markers of the tests, and a reranker that the tests of a run share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from qwen3_reranker import Reranker

from support.helpers import SETTINGS

pytest_plugins = ["support.servers.fixtures"]

# `make test-fast` selects the profile "fast", and `make fuzz` the profile "fuzz".
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.register_profile("fast", max_examples=15, deadline=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None)
settings.load_profile("thorough")

# A run in the background (nohup) ignores these signals, and the programs that tests start and
# interrupt would inherit that. A handler that does nothing is not inherited.
for _signal in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, lambda *_: None)

# Files that take minutes, so a parallel run does not begin them last.
SLOW = (
    "engine/test_notebooks.py",
    "engine/test_processes.py",
    "engine/test_conversion.py",
    "engine/test_bulk_ray.py",
    "servers/test_serve.py",
    "engine/test_examples.py",
)
TESTS = Path(__file__).parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of a real engine and of real servers, by their folder."""
    folder = item.path.relative_to(TESTS).parts[0]
    if folder in ("engine", "servers"):
        item.add_marker(folder)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests: one server after the other, then the slow files, then all others."""
    # Not above: pytest rewrites the asserts of a plugin only if it imports the plugin itself.
    from support.servers.fixtures import ORDER, server_of

    def key(item: pytest.Item) -> tuple[int, int]:
        if server := server_of(item):
            return (0, ORDER.index(server))
        file = item.path.relative_to(TESTS).as_posix()
        return (1, SLOW.index(file)) if file in SLOW else (2, 0)

    items.sort(key=key)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Give all tests of servers to one process of a parallel run, so each server starts once."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(nodeid.split("::", 1)[0])
        together = file.startswith("tests/servers/") and not file.endswith(SLOW)
        return "servers" if together else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def reranker() -> Iterator[Reranker]:
    """The demo model in an embedded vLLM, in fp32 so that scores can be compared closely."""
    with Reranker(**SETTINGS) as reranker:
        yield reranker
