"""
The package's one event loop, on a daemon thread.

Engines and connections live on it. Sync methods wait for it, and async methods await it from
whatever loop the caller has, so both run the same coroutines and share the same engine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from qwen3_reranker.errors import EventLoopError

__all__ = [
    "after_fork",
    "arun",
    "close",
    "critical",
    "gather",
    "interrupted",
    "on_interrupt",
    "require_waitable",
    "run",
    "submit",
    "tokenize",
]

T = TypeVar("T")

# Characters, read in 3 ms; with 64 texts of 260 a thread takes 0.9 ms of CPU time more (2 cores).
_FEW = 50_000


class _ThreadState(threading.local):
    """What the current thread must not wait for: the loop that it serves, a lock that it holds."""

    serves_loop = False
    critical_sections = 0


_state = _ThreadState()
_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
# Coroutine functions that run after the user has interrupted a call.
on_interrupt: list[Callable[[], Coroutine[Any, Any, None]]] = []


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Start `coroutine` on the event loop; cancelling the future cancels it, once."""
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, _get_loop())
    except BaseException:  # no thread could be started
        coroutine.close()
        raise


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """
    Run `coroutine` on the event loop and wait for it, also while another loop runs here.

    Raises:
        EventLoopError: This thread must not wait for the loop.
    """
    try:
        require_waitable()
    except EventLoopError:
        coroutine.close()
        raise
    return _result(submit(coroutine))


async def arun(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on the event loop and await it; cancelling the caller cancels it."""
    return await asyncio.wrap_future(submit(coroutine))


def close(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a coroutine that releases resources, and wait for it wherever a thread may wait.

    A `__del__` method that closes something is run by the garbage collector, on any thread and at
    any time. Where waiting would deadlock, the coroutine is only scheduled, and its failure is
    logged. While the interpreter shuts down, nothing is run: the loop's thread is gone already.
    """
    if sys.is_finalizing():
        coroutine.close()
        return
    future = submit(coroutine)
    if _obstacle() is None:
        _result(future)
    else:
        future.add_done_callback(_report)


async def gather(tasks: Collection[asyncio.Task[T]]) -> list[T]:
    """Await all; where one fails, or the caller is cancelled, cancel the others and wait for them."""
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def tokenize(work: Callable[[], T], texts: Collection[str]) -> T:
    """
    Return `work()`, which tokenizes the texts, without holding the loop up.

    Done in a thread, where the tokenizer works without the GIL and others' requests go on; at once
    where the texts are few, for the way to a thread and back costs as much as they do.
    """
    if sum(map(len, texts)) <= _FEW:
        return work()
    return await asyncio.to_thread(work)


@contextmanager
def critical() -> Iterator[None]:
    """
    Hold the package's lock, which is reentrant.

    The garbage collector may run meanwhile, and with it a `close()` whose coroutine needs the
    lock on the event loop. `close` therefore does not wait on a thread that holds it.
    """
    _state.critical_sections += 1
    try:
        with _lock:
            yield
    finally:
        _state.critical_sections -= 1


def after_fork(callback: Callable[[], None]) -> None:
    """Call `callback` in every forked child, on platforms that fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def _obstacle() -> str | None:
    """Return why this thread must not wait for the event loop, with advice; None if it may."""
    if sys.is_finalizing():
        return "the interpreter is shutting down. Call it earlier, for example from atexit"
    if _state.critical_sections > 0:  # no code of the user's runs here but what interrupts it
        return (
            "this thread holds the package's lock, so a __del__ method or a signal handler made "
            "the call. Make it in a thread of your own, without waiting for that thread"
        )
    if _state.serves_loop:
        return (
            f"this is the package's own thread {threading.current_thread().name!r}. Await the "
            "async method instead, such as arerank() or ascore(). Where that is impossible, as in "
            "a __del__ method or for prompt(), call it in a thread of your own"
        )
    return None


def require_waitable() -> None:
    """
    Raise unless this thread may wait for the event loop.

    Raises:
        EventLoopError: Waiting here would block the loop, and with it this thread, forever.
    """
    if obstacle := _obstacle():
        raise EventLoopError(f"a sync method was called where it would wait forever: {obstacle}")


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except BaseException:  # KeyboardInterrupt: the work must not go on unseen
        if not future.done():
            future.cancel()
            interrupted()
        raise


def interrupted() -> None:
    """Take note that the user has interrupted a call, whose work was cancelled."""
    for follow_up in on_interrupt:
        submit(follow_up())


def _report(future: Future[None]) -> None:
    """Log why a `close` failed that nobody waits for; called on the event loop."""
    if not future.cancelled() and (error := future.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "closing a reranker failed", "exception": error}
        )


def _get_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with critical():
        if _loop is None:
            loop = asyncio.new_event_loop()
            if _loop is not None:  # started by a `close` that the garbage collector ran just now
                loop.close()
                return _loop
            _loop = loop
            try:
                # A daemon, because a script may end without closing anything.
                name = "qwen3-reranker"
                threading.Thread(target=_serve, args=(loop,), name=name, daemon=True).start()
            except BaseException:
                _loop = None
                loop.close()
                raise
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    _mark_thread()
    loop.set_default_executor(
        ThreadPoolExecutor(thread_name_prefix="qwen3-reranker-worker", initializer=_mark_thread)
    )
    loop.run_forever()


def _mark_thread() -> None:
    _state.serves_loop = True


def _forget() -> None:
    """In a forked child: the thread stayed with the parent, so start afresh when needed."""
    global _lock, _loop, _state
    _lock, _loop, _state = threading.RLock(), None, _ThreadState()


after_fork(_forget)
