"""The embedded engine in every form of program, and what is left when the program ends."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import nbclient
import nbformat
import psutil
import pytest

from qwen3_reranker import Reranker

from support.engine_processes import process_of

SCRIPT = textwrap.dedent("""
    from qwen3_reranker import Reranker
    reranker = Reranker("demo", engine_args={"enforce_eager": True})  # starts the sooner
    hits = reranker.rerank("join two paths", ["os.path.join joins two paths", "random noise"])
    print("HITS", sorted(hit.index for hit in hits))
""")

# Seconds for a program with an engine; it takes 15 where nothing else runs.
PATIENCE = 300


def finish(process: subprocess.Popen[str], stdin: str | None = None) -> tuple[str, str]:
    """Wait for a program; its engine's processes must be gone soon after it."""
    out, err = process.communicate(stdin, timeout=PATIENCE)
    deadline = time.monotonic() + 20
    while (left := session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, left
    return out, err


def session(pid: int) -> list[psutil.Process]:
    """Return the processes of the session that `pid` leads."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def start(*arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=cwd,
    )


def check(process: subprocess.Popen[str], stdin: str | None = None) -> None:
    out, err = finish(process, stdin)
    assert "HITS [0, 1]" in out, out + err
    assert process.returncode == 0, err
    for line in err.splitlines():
        assert line.startswith("starting vLLM "), err


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    check(start("script.py", cwd=tmp_path))


def test_a_command_line_that_drops_its_reranker() -> None:
    # Its engine is stopped while the program ends.
    check(start("-c", SCRIPT + "del reranker"))


def test_a_repl() -> None:
    process = start("-i", "-q")
    out, err = finish(process, SCRIPT)
    assert "HITS [0, 1]" in out, out + err
    assert process.returncode == 0, err
    assert "Traceback" not in err, err


def test_a_notebook_cell(tmp_path: Path) -> None:
    cell = SCRIPT + textwrap.dedent("""
        import asyncio
        assert asyncio.get_running_loop()
        print("AWAITED", len(await reranker.arerank("join", ["a", "b"])))
    """)
    code = nbformat.v4.new_code_cell(cell)  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[code])  # type: ignore[no-untyped-call]
    nbclient.NotebookClient(notebook, timeout=PATIENCE).execute(cwd=str(tmp_path))
    printed = "".join(o.get("text", "") for o in notebook.cells[0].outputs)
    assert "HITS [0, 1]" in printed
    assert "AWAITED 2" in printed


def test_the_users_process_stays_small() -> None:
    code = textwrap.dedent("""
        import psutil, sys
        import qwen3_reranker
        before = psutil.Process().memory_info().rss
    """)
    code += SCRIPT + textwrap.dedent("""
        print("MIB", (psutil.Process().memory_info().rss - before) / 2**20)
        print("LOADED", sorted({"vllm", "torch", "httpx", "numpy"} & set(sys.modules)))
    """)
    out, err = finish(start("-c", code))
    assert "LOADED []" in out, out + err
    assert float(out.split("MIB ")[1].split()[0]) < 60


def test_spawned_children_have_engines_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""
            import multiprocessing
            from qwen3_reranker import Reranker

            def score(number):
                with Reranker("demo", engine_args={"enforce_eager": True}) as reranker:
                    return reranker.score("join two paths", ["os.path.join joins two paths"])

            if __name__ == "__main__":
                here = score(0)
                with multiprocessing.get_context("spawn").Pool(2) as pool:
                    print("HITS [0, 1]", pool.map(score, range(2)) == [here] * 2)
        """)
    )
    check(start("script.py", cwd=tmp_path))


APP = """
from qwen3_reranker import Reranker, RerankerError

reranker = Reranker("demo", engine_args={"enforce_eager": True})
# WARM UP

def answer():
    try:
        score = reranker.score("join two paths", ["os.path.join joins two paths"])[0]
        return "200 OK", f"{score:.3f}"
    except RerankerError as error:
        return "500 Internal Server Error", str(error)

def wsgi(environ, start_response):
    status, body = answer()
    start_response(status, [("Content-Type", "text/plain")])
    return [body.encode()]

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        import asyncio
        status, body = await asyncio.to_thread(answer)
        start = {"type": "http.response.start", "status": int(status[:3]), "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": body.encode()})
"""
SERVERS = {
    "gunicorn": ["gunicorn", "app:wsgi", "--preload", "--workers=2", "--timeout=300", "--bind"],
    "uvicorn": ["uvicorn", "app:asgi", "--workers=2", "--lifespan=off", "--port"],
}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_web_servers_workers(tmp_path: Path, kind: str) -> None:
    """Each worker has an engine of its own, also if the app was loaded before the workers."""
    (tmp_path / "app.py").write_text(APP)
    with serving(tmp_path, kind) as url:
        assert {httpx.get(url, timeout=PATIENCE).text for _ in range(8)} == {"0.960"}


def test_a_web_servers_workers_after_a_start_in_the_parent(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.replace("# WARM UP", "reranker.warm_up()"))
    with serving(tmp_path, "gunicorn") as url:
        answer = httpx.get(url, timeout=PATIENCE)
        assert (answer.status_code, "and this is its fork" in answer.text) == (500, True)


@contextmanager
def serving(folder: Path, kind: str) -> Iterator[str]:
    """Run a web server with the app of this folder; yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    arguments = [*SERVERS[kind], address if kind == "gunicorn" else str(port)]
    process = start("-m", *arguments, cwd=folder)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"http://{address}/"
    finally:
        process.terminate()
        finish(process)


def test_an_engine_listens_on_the_loopback_interface_alone(reranker: Reranker) -> None:
    reranker.warm_up()
    process = process_of(reranker)
    connections = [
        connection
        for each in (process, *process.children(recursive=True))
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert connections  # gloo's
    assert not [c for c in connections if not ipaddress.ip_address(c.laddr.ip).is_loopback]


def test_a_killed_engine_is_replaced() -> None:
    code = SCRIPT + textwrap.dedent("""
        import os, signal, psutil
        from qwen3_reranker import EngineError
        before = reranker.score("join two paths", ["os.path.join joins two paths"])
        psutil.Process().children()[0].kill()
        try:
            reranker.score("join two paths", ["os.path.join joins two paths"])
        except EngineError:
            pass
        after = reranker.score("join two paths", ["os.path.join joins two paths"])
        print("SAME", before == after)
    """)
    out, err = finish(start("-c", code))
    assert "SAME True" in out, out + err


def test_the_worker_processes_of_tensor_parallelism_end_with_their_engine() -> None:
    code = SCRIPT.replace(
        '"enforce_eager": True}', '"enforce_eager": True, "tensor_parallel_size": 2}'
    )
    code += textwrap.dedent("""
        import psutil
        workers = psutil.Process().children(recursive=True)
        assert len(workers) > 2, workers
        reranker.close()
        _, alive = psutil.wait_procs(workers, 10)
        print("LEFT", [p for p in alive if p.status() != psutil.STATUS_ZOMBIE])
    """)
    process = start("-c", code)
    out, err = finish(process)
    assert "LEFT []" in out, out + err


def test_an_error_in_the_script_ends_it() -> None:
    process = start("-c", SCRIPT + "raise SystemExit(3)")
    out, err = finish(process)
    assert (process.returncode, "HITS" in out) == (3, True), err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_program_leaves_no_engine(number: signal.Signals) -> None:
    process = start("-u", "-c", SCRIPT + "import time; time.sleep(600)")
    assert process.stdout is not None
    assert "HITS" in process.stdout.readline()
    assert len(session(process.pid)) > 1
    process.send_signal(number)
    finish(process)
    assert process.returncode == -number


def test_a_fork_that_ends_normally_leaves_the_parents_engine_alone() -> None:
    code = SCRIPT + textwrap.dedent("""
        import gc, os, sys
        child = os.fork()
        if child == 0:
            del reranker
            gc.collect()
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("AFTER", len(reranker.score("other", ["a", "b"])))
    """)
    process = start("-c", code)
    out, err = finish(process)
    assert "AFTER 2" in out, out + err
    assert process.returncode == 0, err
