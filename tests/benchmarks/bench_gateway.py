"""
Compare the gateway over an embedded engine with vLLM's own `/v1/rerank`, in one run.

    make bench-gateway                         # or: python -m benchmarks.bench_gateway [--turns 8]

Both are started by this package's command, `serve` and `gateway --eager`, so their engines have the
same settings: on a CPU, `serve` does not compile the model. Runs are interleaved, one contender at
a time, with the same new requests for both. The exit code is 1 if the gateway has less than 0.95 of
vLLM's throughput, or more than 1.1 times its 99th percentile, at any number of callers.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from benchmarks import record
from benchmarks.work import Work, make_queries, make_work
from support.servers.processes import Server

# Requests per turn, by the number of callers.
REQUESTS = {1: 8, 16: 48, 64: 128}
DOCUMENTS = 10
LONGEST = 1500  # characters
LEAST_THROUGHPUT, MOST_P99 = 0.95, 1.1

Turns = dict[str, list[dict[str, Any]]]
"""By contender@callers: what was measured in each turn."""


def main() -> None:
    """Start both, interleave the runs, print the table and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--save", default="gateway", help="the name of the JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        servers = {
            "vllm": command("serve demo", folder / "vllm.log", health="/health"),
            "gateway": command("gateway demo --eager", folder / "gateway.log", health="/ready"),
        }
        for server in servers.values():
            stack.enter_context(server)
        turns = compare(servers, arguments.turns)
    ratios = {callers: _ratios(turns, callers) for callers in REQUESTS}
    print(table(turns, ratios))
    numbers = {"documents": DOCUMENTS, "requests": REQUESTS, "ratios": ratios, "turns": turns}
    record.save(arguments.save, numbers)
    sys.exit(
        any(
            ratio["throughput"] < LEAST_THROUGHPUT or ratio["p99"] > MOST_P99
            for ratio in ratios.values()
        )
    )


def command(words: str, log: Path, *, health: str) -> Server:
    """Return a server that this package's command runs, not started yet."""
    program = [sys.executable, "-m", "qwen3_reranker", *words.split(), "--port", "{port}"]
    return Server(program, log, health=health)


def compare(servers: dict[str, Server], turns: int) -> Turns:
    """Return the outcomes after a warm-up turn."""
    found: Turns = {}
    queries = make_queries()
    for turn in range(turns + 1):
        for callers, requests in REQUESTS.items():
            work = make_work(queries, turn, DOCUMENTS, requests, LONGEST)
            # Whoever is the second one finds a machine that has just worked.
            names = list(servers) if turn % 2 else list(reversed(servers))
            for name in names:
                outcome = asyncio.run(measure(servers[name], work, callers))
                print(
                    f"{name}@{callers:<8}{outcome['rate']:8.1f} documents/s, "
                    f"{outcome['frontend_cpu_ms']:6.2f} ms of CPU a request beside the engine",
                    flush=True,
                )
                if turn:
                    found.setdefault(f"{name}@{callers}", []).append(outcome)
    return found


async def measure(server: Server, work: Work, callers: int) -> dict[str, Any]:
    """
    Return documents per second, the seconds of each request, and CPU time per request.

    Args:
        server: Who is asked.
        work: The requests.
        callers: How many requests are sent at a time.
    """
    bodies = [orjson.dumps({"query": query, "documents": texts}) for query, texts in work]
    left = iter(bodies)
    latencies: list[float] = []
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(limits=limits, timeout=600, headers=headers) as client:

        async def call() -> None:
            for body in left:
                began = time.perf_counter()
                response = await client.post(f"{server.url}/v1/rerank", content=body)
                latencies.append(round(time.perf_counter() - began, 5))
                assert len(response.json()["results"]) == DOCUMENTS, response.text

        # Connections are opened before the clock starts.
        await asyncio.gather(*(client.get(f"{server.url}/health") for _ in range(callers)))
        before, began = cpu_seconds(server), time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        seconds = time.perf_counter() - began
        frontend, engine = (a - b for a, b in zip(cpu_seconds(server), before, strict=True))
    return {
        "rate": len(bodies) * DOCUMENTS / seconds,
        "frontend_cpu_ms": frontend / len(bodies) * 1000,
        "engine_cpu_ms": engine / len(bodies) * 1000,
        "latencies": latencies,
    }


def cpu_seconds(server: Server) -> tuple[float, float]:
    """Return the CPU time of the process that answers, and of all the others: the engine's."""
    processes = server.processes()
    [answers] = [p for p in processes if _listens(p, server.port)]
    times = {process: _cpu_seconds(process) for process in processes}
    frontend = times.pop(answers)
    return frontend, sum(times.values())


def _listens(process: psutil.Process, port: int) -> bool:
    connections = process.net_connections("tcp")
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _ratios(turns: Turns, callers: int) -> dict[str, float]:
    """Return the gateway's throughput and 99th percentile as shares of vLLM's."""
    ours, theirs = turns[f"gateway@{callers}"], turns[f"vllm@{callers}"]
    pairs = [a["rate"] / b["rate"] for a, b in zip(ours, theirs, strict=True)]
    return {
        "throughput": round(statistics.median(pairs), 3),
        "p99": round(percentile_99(ours) / percentile_99(theirs), 3),
    }


def percentile_99(outcomes: Sequence[dict[str, Any]]) -> float:
    """Return the 99th percentile of the seconds of all requests of all turns."""
    latencies = [seconds for outcome in outcomes for seconds in outcome["latencies"]]
    return float(statistics.quantiles(latencies, n=100, method="inclusive")[98])


def table(turns: Turns, ratios: dict[int, dict[str, float]]) -> str:
    """Return the medians over the turns, the 99th percentiles and the ratios."""
    lines = []
    for mode, outcomes in turns.items():
        rate, frontend, engine = (
            statistics.median(outcome[name] for outcome in outcomes)
            for name in ("rate", "frontend_cpu_ms", "engine_cpu_ms")
        )
        lines.append(
            f"{mode:<12}{rate:8.1f} documents/s  p99 {percentile_99(outcomes):7.3f} s  "
            f"CPU a request: {frontend:6.2f} ms, engine {engine:7.1f} ms"
        )
    lines += [f"ratios@{callers}: {ratio}" for callers, ratio in ratios.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
