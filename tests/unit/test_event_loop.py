"""The package's event loop: it never waits for itself, and it survives what it cannot prevent."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

# What hangs is stopped after so many seconds; the programs below take about one.
PATIENCE = 60

SCORERS = textwrap.dedent("""
    import asyncio, gc, os, sys, threading, time, warnings
    warnings.simplefilter("error")
    gc.disable()  # collects where a test says so
    from qwen3_reranker import EventLoopError, Prompt, Reranker, Scorer, Scores, event_loop

    closed = threading.Event()
    may_close = threading.Event()
    may_close.set()

    class Halves(Scorer):
        model = "halves"
        async def score(self, query, texts, instruction):
            return Scores([0.5 for _ in texts], [False for _ in texts])
        def prompt(self, query, document, instruction):
            return Prompt(query + document, [], truncated=False)
        async def aclose(self):
            await asyncio.to_thread(may_close.wait)
            closed.set()

    class Calls(Halves):
        def __init__(self, call):
            self.call = call
        async def score(self, query, texts, instruction):
            await self.call()
            return await super().score(query, texts, instruction)

    class Owner:
        def __init__(self):
            self.reranker = Reranker(scorer=Halves())
            self.cycle = self  # so that the garbage collector alone finds it
        def __del__(self):
            self.reranker.close()

    inner = Reranker(scorer=Halves())
""")


def run(code: str) -> str:
    """Run a program that must end by itself, without a complaint; return what it prints."""
    command = [sys.executable, "-c", SCORERS + textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "call",
    [
        "rerank('q', ['d'])",
        "score('q', ['d'])",
        "describe()",
        "warm_up()",
        "rerank_many([('q', ['d'])])",
        "rerank_iter(iter([('q', ['d'])])).__next__()",
    ],
)
@pytest.mark.parametrize("thread", ["loop", "worker"])
def test_a_sync_call_on_the_packages_own_threads_raises(call: str, thread: str) -> None:
    """As in a scorer that asks another reranker with the method that waits."""
    out = run(f"""
        async def sync_call():
            call = lambda: inner.{call}
            call() if {thread!r} == "loop" else await asyncio.to_thread(call)

        outer = Reranker(scorer=Calls(sync_call))
        try:
            outer.score("q", ["d"])
        except EventLoopError as error:
            print(error)
        print(inner.score("q", ["d"]), "still works")
    """)
    assert "wait" in out
    assert "async" in out
    assert "[0.5] still works" in out


def test_an_async_call_on_the_loop_works() -> None:
    out = run("""
        async def async_call():
            print(await inner.ascore("q", ["d"]), await inner.arerank("q", ["d"]))
        print(Reranker(scorer=Calls(async_call)).score("q", ["d"]))
    """)
    assert out.startswith("[0.5] [Hit(")
    assert out.endswith("[0.5]\n")


@pytest.mark.parametrize("thread", ["loop", "worker"])
def test_a_close_by_the_garbage_collector_is_not_waited_for(thread: str) -> None:
    out = run(f"""
        def collect():
            gc.collect()
            may_close.set()  # as a worker lets go of a lock that closing needs

        async def call():
            collect() if {thread!r} == "loop" else await asyncio.to_thread(collect)

        may_close.clear()
        Owner()
        print(Reranker(scorer=Calls(call)).score("q", ["d"]), closed.wait(10))
    """)
    assert out == "[0.5] True\n"


def test_a_close_that_fails_on_the_loop_is_reported() -> None:
    out = run("""
        import logging

        class Log(logging.Handler):
            def emit(self, record):
                print(record.getMessage(), repr(record.exc_info[1]))
                closed.set()

        class Broken(Halves):
            async def aclose(self):
                raise OSError("the engine is stuck")

        async def close_it():
            Reranker(scorer=Broken()).close()

        logging.getLogger("asyncio").addHandler(Log())
        Reranker(scorer=Calls(close_it)).score("q", ["d"])
        print(closed.wait(10))
    """)
    assert out == "closing a reranker failed OSError('the engine is stuck')\nTrue\n"


def test_a_close_by_a_collection_in_the_midst_of_making_an_engine() -> None:
    """The collector may run while the registry of engines is locked."""
    out = run("""
        from qwen3_reranker.embedded import engine, engine_registry
        original = engine.Engine.__init__

        def collecting(self, *args):
            gc.collect()
            original(self, *args)

        old = Reranker("demo")
        owner = Owner()
        owner.reranker = old  # which lives on, so that no weak reference gives it back before
        del owner
        engine.Engine.__init__ = collecting
        Reranker("demo", max_length=100).close()
        old.close()
        print(len(engine_registry.active_engines()))
    """)
    assert out == "0\n"


def test_a_close_while_the_interpreter_ends() -> None:
    assert run("owner = Owner(); print(owner.reranker.score('q', ['d']))") == "[0.5]\n"


def test_a_close_in_the_midst_of_starting_the_loop() -> None:
    out = run("""
        original = asyncio.new_event_loop

        def collecting():
            asyncio.new_event_loop = original
            gc.collect()
            return original()

        Owner()
        asyncio.new_event_loop = collecting
        print(inner.score("q", ["d"]), closed.wait(10))
        print(sum(thread.name == "qwen3-reranker" for thread in threading.enumerate()))
    """)
    assert out == "[0.5] True\n1\n"


def test_a_thread_that_cannot_start_leaves_the_next_call_alone() -> None:
    out = run("""
        original = threading.Thread.start

        def start(self):
            threading.Thread.start = original
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start
        try:
            inner.score("q", ["d"])
        except RuntimeError as error:
            print(error)
        print(inner.score("q", ["d"]))
        gc.collect()
    """)
    assert out == "can't start new thread\n[0.5]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own_loop() -> None:
    out = run("""
        async def fork():
            child = os.fork()
            if child == 0:
                print(inner.score("q", ["in the child"]), flush=True)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

        warnings.simplefilter("ignore", DeprecationWarning)
        print(Reranker(scorer=Calls(fork)).score("q", ["d"]))
    """)
    assert out == "[0.5]\n[0.5]\n"


def test_a_source_that_blocks_forever_does_not_keep_a_program_from_ending() -> None:
    out = run("""
        def pairs():
            yield "q", ["d"]
            threading.Event().wait()

        stream = inner.rerank_iter(pairs())
        print(len(next(stream)))
    """)
    assert out == "1\n"


SCORES_LATE = """
class ScoresLate:
    def __init__(self):
        self.reranker, self.cycle = inner, self
    def __del__(self):
        try:
            self.reranker.score("q", ["d"])
        except EventLoopError as error:
            os.write(1, f"{error}\\n".encode())  # print() may be gone already

"""


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (
            "ScoresLate()\nwith event_loop.critical():\n    gc.collect()",
            "Make it in a thread of your own",
        ),
        ("kept = ScoresLate()", "Call it earlier, for example from atexit"),
    ],
    ids=["lock", "shutdown"],
)
def test_the_advice_can_be_followed_where_nothing_can_be_awaited(code: str, advice: str) -> None:
    out = run(f"{SCORES_LATE}{code}")
    assert advice in out
    assert "arerank" not in out


def test_a_prompt_on_the_packages_own_thread_is_advised_to_use_another() -> None:
    """There is no async version of `prompt()`, which asks a server at its first call."""
    out = run("""
        remote = Reranker(base_url="http://127.0.0.1:9")

        async def sync_call():
            remote.prompt("q", "d")

        try:
            Reranker(scorer=Calls(sync_call)).score("q", ["d"])
        except EventLoopError as error:
            print(error)
    """)
    assert "for prompt(), call it in a thread of your own" in out
