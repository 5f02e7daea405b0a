"""
The package's event loop, on a daemon thread.

Engines and connections belong to it. Sync methods wait for it and async methods await it from the
caller's loop, so both run the same coroutines and share the same engine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
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

# How many characters are tokenized once on the event loop itself, which takes at most 3 ms. A
# thread would take 0.9 ms of CPU time more (measured with 64 texts of 260 characters on 2 cores).
_FEW_CHARACTERS = 50_000


class _ThreadState(threading.local):
    """Why the current thread must not wait: it runs the event loop, or holds the lock."""

    serves_loop = False
    critical_sections = 0


_state = _ThreadState()
_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
on_interrupt: list[Callable[[], Coroutine[Any, Any, None]]] = []
"""Coroutine functions to run after the user has interrupted a call, as with Ctrl-C."""


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """
    Start a coroutine on the event loop.

    Args:
        coroutine: What to run. It is closed if it cannot be started.

    Returns:
        A future of its result. Canceling the future cancels the coroutine, once.
    """
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, _get_loop())
    except BaseException:  # no thread could be started
        coroutine.close()
        raise


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """
    Run a coroutine on the event loop and wait for it, even while another loop runs on this thread.

    An interruption of the wait, as with Ctrl-C, cancels the coroutine.

    Raises:
        EventLoopError: This thread must not wait for the event loop.
    """
    try:
        require_waitable()
    except EventLoopError:
        coroutine.close()
        raise
    future = submit(coroutine)
    try:
        return future.result()
    except BaseException:  # KeyboardInterrupt: the work must not go on unseen
        if not future.done():
            future.cancel()
            interrupted()
        raise


async def arun(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop and await it. Canceling the awaiting task cancels it."""
    return await asyncio.wrap_future(submit(coroutine))


def close(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a coroutine that releases resources, and wait for it if this thread may wait.

    The garbage collector can run a `__del__` method that closes something on any thread and at any
    time. Where waiting would deadlock, the coroutine is only scheduled, and its failure is logged.
    While the interpreter shuts down nothing is run, because the loop's thread no longer exists.
    """
    if sys.is_finalizing():
        coroutine.close()
    elif _obstacle() is None:
        run(coroutine)
    else:
        submit(coroutine).add_done_callback(_report)


async def gather(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """
    Run coroutines concurrently and await all of them.

    If one fails, or the caller is canceled, the others are canceled and awaited before the error
    is raised. (`asyncio.gather()` would let them go on.)

    Args:
        coroutines: What to run, each in a task of its own.

    Returns:
        The results, in the order of the coroutines.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def tokenize(
    work: Callable[[], T], texts: Collection[str], *, few_characters: int = _FEW_CHARACTERS
) -> T:
    """
    Tokenize texts without blocking the event loop for long.

    The tokenizer runs in a thread, where it releases the GIL. Short texts are tokenized at once,
    since a switch to a thread and back would take as long.

    Args:
        work: Tokenizes the texts.
        texts: The texts, to decide by their length.
        few_characters: How many characters `work` can process on the event loop in at most 3 ms.

    Returns:
        What `work` returns.
    """
    if sum(map(len, texts)) <= few_characters:
        return work()
    return await asyncio.to_thread(work)


@contextmanager
def critical() -> Iterator[None]:
    """
    Hold the package's lock, which is reentrant.

    Meanwhile the garbage collector may run a `close()` whose coroutine needs the lock on the event
    loop. Therefore `close()` does not wait on a thread that holds the lock.
    """
    _state.critical_sections += 1
    try:
        with _lock:
            yield
    finally:
        _state.critical_sections -= 1


def after_fork(callback: Callable[[], None]) -> None:
    """Register a function to be called in every forked child, on platforms that can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def _obstacle() -> str | None:
    """Return why this thread must not wait for the event loop, and what to do. None if it may."""
    if sys.is_finalizing():
        return "the interpreter is shutting down. Call it earlier, for example from atexit"
    if _state.critical_sections > 0:  # the only user code that runs here is what interrupts it
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
        EventLoopError: Waiting would block the event loop, and with it this thread, forever.
    """
    if obstacle := _obstacle():
        raise EventLoopError(f"a sync method was called where it would wait forever: {obstacle}")


def interrupted() -> None:
    """Start the coroutines of `on_interrupt`. Call it when the user has interrupted a call."""
    for follow_up in on_interrupt:
        submit(follow_up())


def _report(future: Future[None]) -> None:
    """Log why a `close()` failed that nobody waits for. Called on the event loop."""
    if not future.cancelled() and (error := future.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "closing a reranker failed", "exception": error}
        )


def _get_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with critical():
        if _loop is None:
            loop = asyncio.new_event_loop()
            if _loop is not None:  # a `close()` that the garbage collector just ran has made one
                loop.close()
                return _loop
            _loop = loop
            try:
                # A daemon thread, because a script may end without closing anything.
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
    """In a forked child, start over when needed, because the thread exists only in the parent."""
    global _lock, _loop, _state
    _lock, _loop, _state = threading.RLock(), None, _ThreadState()


after_fork(_forget)
