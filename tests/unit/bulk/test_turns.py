"""The lock that threads hold together, or one of them alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from qwen3_reranker.bulk.turns import Turns

from support.engine_processes import wait_until


def test_a_thread_that_wants_to_be_alone_comes_before_later_ones() -> None:
    turns, events = Turns(), list[str]()
    began, leave = threading.Event(), threading.Event()

    def first() -> None:
        with turns.together():
            began.set()
            leave.wait(30)
            events.append("first")

    def alone() -> None:
        with turns.alone():
            events.append("alone")

    def later() -> None:
        with turns.together():
            events.append("later")

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(first)]
        began.wait(30)
        futures.append(pool.submit(alone))
        wait_until(lambda: turns._waiting == 1)
        futures.append(pool.submit(later))
        leave.set()
        for future in futures:
            future.result(30)
    assert events == ["first", "alone", "later"]
