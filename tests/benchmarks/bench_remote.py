"""
Compare clients of one vLLM server with a bare loop that posts encoded bodies, in one run.

    make bench-remote                         # or: python -m benchmarks.bench_remote [--turns 6]

The server is vLLM with the demo model, which is so small that the client's time matters. It has the
score template, which clients that send plain text need. Each client runs in its own process. Runs
are interleaved, one client at a time, with the same documents and with new queries.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qwen3_reranker.model.checkpoint import DEMO_MODEL

from benchmarks import record
from benchmarks.work import Work, make_queries, make_work
from benchmarks.workers import Worker
from support.servers.vllm_servers import SCORE_TEMPLATE, vllm_server

CLIENTS = (
    "bare",
    "bare_tokenizing",
    "ours",
    "http_reranker",
    "langchain_cohere",
    "llama_index_cohere",
)
# Requests per turn, by concurrency.
REQUESTS = {1: 16, 16: 48, 64: 96}
DOCUMENTS = 64
# The other clients do not truncate, and the server rejects prompts that exceed the limit.
LONGEST = 3000

FAST = ("--dtype", "bfloat16", "--max-num-seqs", "256", "--block-size", "32")

Turns = dict[str, list[dict[str, Any]]]
"""By client@concurrency: documents per second, CPU time and all latencies of each turn."""


def main() -> None:
    """Start server and clients, interleave the runs, print the table and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--save", default="remote", help="the name of the JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        log = root / "server.log"
        server = stack.enter_context(
            vllm_server(
                DEMO_MODEL, log, original=True, template=SCORE_TEMPLATE, served="demo", more=FAST
            )
        )
        workers = {
            name: stack.enter_context(
                Worker(f"benchmarks.clients:{name}", server.url, root / f"{name}.log")
            )
            for name in CLIENTS
        }
        turns, refused = compare(workers, arguments.turns)
    print(table(turns))
    numbers = {"documents": DOCUMENTS, "requests": REQUESTS, "turns": turns, "refused": refused}
    record.save(arguments.save, numbers)


def compare(workers: dict[str, Worker], turns: int) -> tuple[Turns, dict[str, str]]:
    """Return the outcomes after a warm-up turn, and why some clients could not take part."""
    found: Turns = {}
    refused: dict[str, str] = {}
    queries = make_queries()
    for turn in range(turns + 1):
        for concurrency, requests in REQUESTS.items():
            for name, worker in workers.items():
                work = make_work(queries, turn, DOCUMENTS, requests, LONGEST)
                if name in refused:
                    continue
                mode = f"{name}@{concurrency}"
                try:
                    outcome = measure(worker, mode, work)
                except RuntimeError as error:
                    refused[name] = _reason(str(error))
                    print(f"{mode:<24}{refused[name]}", flush=True)
                else:
                    found.setdefault(mode, []).append(outcome)
        work = make_work(queries, turn, DOCUMENTS, max(REQUESTS.values()), LONGEST)
        for mode in ("tokenize", "tokenizers"):
            found.setdefault(mode, []).append(measure(workers["ours"], mode, work))
    return {mode: outcomes[1:] for mode, outcomes in found.items()}, refused


def _reason(log: str) -> str:
    """Return the name of the exception that a log ends with, and its HTTP status if it has one."""
    last = log.strip().splitlines()[-1]
    name = last.partition(":")[0].rpartition(".")[2]
    status = re.search(r"status_code: (\d+)", last)
    return f"{name}, HTTP status {status[1]}" if status else name


def measure(worker: Worker, mode: str, work: Work) -> dict[str, Any]:
    """Return documents per second, CPU µs per document, and the seconds of each request."""
    outcome = worker.ask(mode, work)
    documents = sum(len(texts) for _, texts in work)
    rate = documents / outcome.seconds
    cpu = outcome.cpu_seconds / documents * 1e6
    print(f"{mode:<24}{rate:8.1f} /s {cpu:8.1f} us of CPU a document", flush=True)
    latencies = [round(seconds, 5) for seconds in outcome.result or ()]
    return {"rate": rate, "cpu_us": cpu, "latencies": latencies}


def table(turns: Turns) -> str:
    """Return the medians over the turns, and the 99th percentile of all latencies."""
    lines = []
    for mode, outcomes in turns.items():
        rate = statistics.median(outcome["rate"] for outcome in outcomes)
        cpu = statistics.median(outcome["cpu_us"] for outcome in outcomes)
        latencies = [seconds for outcome in outcomes for seconds in outcome["latencies"]]
        p99 = f"p99 {percentile_99(latencies):7.3f} s" if latencies else ""
        lines.append(f"{mode:<24}{rate:8.1f} /s {cpu:8.1f} us of CPU {p99}")
    return "\n".join(lines)


def percentile_99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


if __name__ == "__main__":
    main()
