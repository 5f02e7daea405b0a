"""
The one event loop of the package, on a daemon thread.

Engines and connections live on it. The sync API waits for it, the async API awaits it from
whatever loop the caller has, so both run the same coroutines and share the same engine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

__all__ = ["arun", "gather", "run", "submit"]

T = TypeVar("T")

# Reentrant, for the garbage collector may close an engine while the lock is held.
_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None


def submit(coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start `coroutine` on the background loop; cancelling the future cancels it, once."""
    return asyncio.run_coroutine_threadsafe(coroutine, _get_loop())


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on the background loop and wait for it, also inside a running loop."""
    future = submit(coroutine)
    try:
        return future.result()
    except BaseException:  # KeyboardInterrupt: the work must not go on unseen
        future.cancel()
        raise


async def arun(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on the background loop and await it; cancelling the caller cancels it."""
    return await asyncio.wrap_future(submit(coroutine))


async def gather(tasks: Collection[asyncio.Task[T]]) -> list[T]:
    """Await all; where one fails, or the caller is cancelled, cancel the others and wait for them."""
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _get_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            # A daemon, for a script may end without closing anything.
            threading.Thread(target=_loop.run_forever, name="qwen3-reranker", daemon=True).start()
        return _loop


def _forget() -> None:
    """In a forked child: the thread stayed with the parent, so start afresh when needed."""
    global _lock, _loop
    _lock = threading.RLock()
    _loop = None


os.register_at_fork(after_in_child=_forget)
