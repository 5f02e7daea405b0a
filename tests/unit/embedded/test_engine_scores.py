"""The engine process: scores, cancellation and a full socket."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from qwen3_reranker import EngineError, event_loop
from qwen3_reranker.embedded import engine_process
from qwen3_reranker.embedded.protocol import Decoder, Frame, frame
from qwen3_reranker.model.probability import sigmoid

from support.engine_processes import TEXTS, MakePython, MakeReranker, engine_of, expected
from support.fake_vllm.vllm import logit_of

pytestmark = pytest.mark.slow

# Scores


def test_every_call_gets_its_own_scores(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    queries = [f"query {number}" for number in range(60)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda query: reranker.score(query, TEXTS), queries))
    assert found == [expected(reranker, query, TEXTS) for query in queries]


def test_more_documents_than_a_part(make_reranker: MakeReranker) -> None:
    reranker = make_reranker()
    texts = [f"text {number}" for number in range(3000)]
    assert reranker.score("q", texts) == expected(reranker, "q", texts)


def test_the_users_process_loads_no_vllm(make_python: MakePython) -> None:
    code = textwrap.dedent(f"""
        import sys
        from qwen3_reranker import Reranker
        python = {make_python()!r}
        with Reranker("demo", check=False, quiet=True, engine_python=python) as reranker:
            print(len(reranker.score("q", ["a", "b"])))
        print({{"vllm", "torch", "httpx"}} & set(sys.modules))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    # Nor does anything that vLLM prints reach standard output.
    assert (done.stdout, done.stderr) == ("2\nset()\n", "")


def test_a_refused_prompt_fails_its_call_alone(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"step_seconds": 0.01})
    reranker.warm_up()
    engine = engine_of(reranker)
    with pytest.raises(EngineError, match="a prompt of 9000 tokens is too long"):
        event_loop.run(engine.running.client.encode([[1], [5] * 9000]))
    assert event_loop.run(engine.running.client.count_requests()) == 0
    assert reranker.score("q", TEXTS) == expected(reranker, "q", TEXTS)


def test_a_request_error_beside_a_score_raises(make_reranker: MakeReranker) -> None:
    """As vLLM 0.33 reports it: an output whose score is 0.0 and whose `error` is set."""
    reranker = make_reranker(engine_args={"fail_at": 77})
    reranker.warm_up()
    engine = engine_of(reranker)
    with pytest.raises(EngineError, match="planted"):
        event_loop.run(engine.running.client.encode([[1, 2], [77]]))
    assert event_loop.run(engine.running.client.encode([[1, 2]])) == [[logit_of([1, 2])]]


def test_a_step_has_all_documents_of_a_query(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"logit_is_step_size": True})
    sigmoids = [sigmoid(12)] * 12
    for turn in range(20):
        assert reranker.score(f"{turn}", TEXTS[:12]) == sigmoids


# Cancellation, and a full socket


def test_a_connection_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's side goes on sending and reading where the other side does not read."""
    left = threading.Event()

    def leave() -> None:
        left.set()
        threading.Event().wait()  # the thread is a daemon

    monkeypatch.setattr(engine_process, "leave", leave)
    ours, theirs = socket.socketpair()
    connection = engine_process.Connection(theirs)
    connection.busy = False
    body = bytes(2**20)
    for number in range(10):
        connection.send({"type": "result", "id": number}, body)
    ours.settimeout(30)
    for number in range(10):
        ours.sendall(frame({"type": "encode", "id": number}, body))
    assert [connection.inbox.get().head["id"] for _ in range(10)] == list(range(10))
    decoder, received = Decoder(), list[Frame]()
    while len(received) < 10:
        received += decoder.feed(ours.recv(2**16))
    assert [(f.head["id"], f.body == body) for f in received] == [(n, True) for n in range(10)]
    ours.close()
    assert left.wait(30)


async def test_canceling_takes_the_prompts_out_of_the_engine(make_reranker: MakeReranker) -> None:
    reranker = make_reranker(engine_args={"step_seconds": 0.05})
    await reranker.awarm_up()
    client = engine_of(reranker).running.client
    task = asyncio.create_task(reranker.ascore("q", [f"{n} text" for n in range(2000)]))
    while await event_loop.arun(client.count_requests()) < 1000:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while await event_loop.arun(client.count_requests()):
            await asyncio.sleep(0.005)
    assert await reranker.ascore("q", TEXTS) == expected(reranker, "q", TEXTS)


def test_a_full_socket_does_not_block_other_calls(make_reranker: MakeReranker) -> None:
    """Both sides send far more than the socket holds, while the engine computes."""
    reranker = make_reranker(engine_args={"step_seconds": 0.5})
    reranker.warm_up()
    engine = engine_of(reranker)
    prompts = [[number] * 8000 for number in range(60)]

    async def many() -> list[Any]:
        calls = [engine.running.client.encode(prompts[n::10]) for n in range(10)]
        return await asyncio.gather(*calls)

    assert event_loop.run(many()) == [[[logit_of(p)] for p in prompts[n::10]] for n in range(10)]
    rows = event_loop.run(engine.running.client.encode([[number] for number in range(200)]))
    assert rows == [[logit_of([number])] for number in range(200)]
