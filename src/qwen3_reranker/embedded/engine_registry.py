"""The engines of this program. Rerankers with equal settings share one."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future

from qwen3_reranker import event_loop
from qwen3_reranker.embedded.engine import Engine
from qwen3_reranker.embedded.engine_settings import EngineSettings

__all__ = ["acquire", "active_engines", "release"]


def acquire(settings: EngineSettings, user: object) -> Engine:
    """
    Return the engine with these settings; make it if there is none.

    Args:
        settings: The engine's settings.
        user: A token that identifies the user. Call `release` with it.
    """
    with event_loop.critical():
        while True:
            engine = _engines.get(settings.key)
            if engine is None:
                engine = _engines[settings.key] = Engine(settings)
            engine.users.add(user)
            # The garbage collector may just have released its last user.
            if _engines.get(settings.key) is engine:
                return engine


def release(engine: Engine, user: object) -> Future[None] | None:
    """
    Remove a user of an engine, and end the engine if it was the last one.

    Returns:
        A future that waits for the engine's end. None if it has other users, or no end to wait for.
    """
    with event_loop.critical():
        if user not in engine.users:
            return None
        engine.users.discard(user)
        if engine.users:
            return None
        if _engines.get(engine.settings.key) is engine:
            del _engines[engine.settings.key]
    # While the interpreter shuts down, the process has been killed and the event loop has stopped.
    return None if sys.is_finalizing() else event_loop.submit(engine.aclose())


def active_engines() -> list[Engine]:
    """Return the engines that have users, whether or not their processes run."""
    return list(_engines.values())


async def _abandon_starts() -> None:
    """Cancel the starts that only calls interrupted by the user waited for."""
    await asyncio.sleep(0.1)  # until these calls have been canceled
    for engine in active_engines():
        engine.abandon_start()


def _after_fork() -> None:
    """In a forked child, forget the engines whose processes belong to the parent."""
    for key, engine in list(_engines.items()):
        if engine.pid is not None:
            del _engines[key]


_engines: dict[str, Engine] = {}
event_loop.on_interrupt.append(_abandon_starts)
event_loop.after_fork(_after_fork)
