"""
Measure how time and memory grow with the number and length of documents and of queries.

    make bench-growth                         # or: python -m benchmarks.bench_growth

The first three measurements are the seconds per query of Reranker and of the raw engine (see
contenders.py). The last one streams 100,000 documents through `rerank_iter` with a model of one
layer, so that the time and memory are mostly those of this package and of vLLM's own code.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count, cycle
from pathlib import Path
from typing import Any

import psutil

from qwen3_reranker import Reranker
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.prompt import PromptBuilder

from benchmarks import record
from benchmarks.contenders import environment
from benchmarks.work import SHAPES, Work, make_model, make_queries, make_work, passages
from benchmarks.workers import Worker

DOCUMENTS = (1, 4, 16, 64, 256, 1024)
LENGTHS = (16, 64, 256, 1024, 4096)
QUERY_LENGTHS = (8, 64, 256, 1024)
# The number of documents with which both lengths are measured.
OF_A_LENGTH, OF_A_QUERY = 16, 64
TURNS = 4
STREAMED, A_QUERY, SAMPLE = 100_000, 100, 5_000
Points = dict[str, dict[str, float]]


def main() -> None:
    """Measure, print and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--shape", choices=SHAPES, default="44M")
    parser.add_argument("--save", default="growth", help="the name of the JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        streamed = stream(make_model(root / "tiny", "tiny"))
        model = make_model(root / "model", arguments.shape)
        workers = {
            mode: stack.enter_context(
                Worker(
                    f"benchmarks.contenders:{loader}",
                    str(model),
                    root / f"{mode}.log",
                    environment(),
                )
            )
            for mode, loader in (("raw", "raw"), ("reranker", "ours"))
        }
        builder = Checkpoint.load(str(model)).prompts(None)
        queries = make_queries()
        works: dict[str, dict[int, Work]] = {
            "documents": {n: make_work(queries, 0, n, 1) for n in DOCUMENTS},
            "document tokens": {n: [(next(queries), texts(builder, n))] for n in LENGTHS},
            "query tokens": {n: of_query(builder, n) for n in QUERY_LENGTHS},
        }
        points = {axis: measure(axis, workers, by_size) for axis, by_size in works.items()}
    record.save(
        arguments.save,
        {"shape": arguments.shape, "seconds": points, "streamed": streamed, "turns": TURNS},
    )


def measure(axis: str, workers: dict[str, Worker], works: dict[int, Work]) -> Points:
    """Return the median seconds of each size, by mode."""
    points: Points = {mode: {} for mode in workers}
    for size, work in works.items():
        found: dict[str, list[float]] = {mode: [] for mode in workers}
        for turn in range(TURNS + 1):
            for mode, worker in workers.items():
                seconds = worker.ask(mode, work).seconds
                if turn:
                    found[mode].append(seconds)
        for mode, seconds_found in found.items():
            points[mode][str(size)] = statistics.median(seconds_found)
        times = "  ".join(f"{mode} {points[mode][str(size)]:8.3f} s" for mode in workers)
        print(f"{size:>5} {axis:<16}{times}", flush=True)
    return points


def texts(builder: PromptBuilder, tokens: int) -> list[str]:
    """Return documents of about this many tokens, each from another place of the collection."""
    found = []
    source = cycle(passages())
    for number in range(OF_A_LENGTH):
        text = f"{number}. "
        while len(builder.encode("q", [text])[0].ids) < tokens + 100:
            text += next(source) + "\n"
        found.append(cut(builder, text, tokens))
    return found


def of_query(builder: PromptBuilder, tokens: int) -> Work:
    """Return a query of about this many tokens, with documents of mixed lengths."""
    [(query, documents)] = make_work(make_queries(), tokens, OF_A_QUERY, 1)
    return [(cut(builder, f"{query} {' '.join(passages()[:99])}", tokens), documents)]


def cut(builder: PromptBuilder, text: str, tokens: int) -> str:
    """Return the beginning of `text` that has about this many tokens."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        length = len(builder.encode_parts("q", [text[:middle]])[1][0].ids) - len(builder.suffix_ids)
        low, high = (middle, high) if length <= tokens else (low, middle - 1)
    return text[:low]


def stream(model: Path) -> list[dict[str, Any]]:
    """Return time and resident memory, of this process and the engine's, as scoring proceeds."""
    me = psutil.Process(os.getpid())
    samples = []
    with Reranker(str(model), check=False) as reranker:
        reranker.score("warm up", passages()[:200])
        [engine] = me.children()
        started = time.perf_counter()
        done = 0
        for hits in reranker.rerank_iter(pairs(), top_n=3):
            assert len(hits) == 3
            done += A_QUERY
            if done % SAMPLE == 0:
                samples.append(
                    {
                        "documents": done,
                        "seconds": time.perf_counter() - started,
                        "client_mib": me.memory_info().rss / 2**20,
                        "engine_mib": engine.memory_info().rss / 2**20,
                    }
                )
                print(" ".join(f"{k} {v:.0f}" for k, v in samples[-1].items()), flush=True)
    return samples


def pairs() -> Iterator[tuple[str, list[str]]]:
    """Yield queries with documents that are all different."""
    numbers = count()
    short = cycle([text for text in passages() if len(text) < 400])
    for query in range(STREAMED // A_QUERY):
        yield f"query {query}", [f"{next(numbers)} {next(short)}" for _ in range(A_QUERY)]


if __name__ == "__main__":
    main()
