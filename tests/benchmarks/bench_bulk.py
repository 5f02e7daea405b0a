"""
Measure bulk reranking: the shares of `rerank_many`'s throughput, and the costs of files and of Ray.

    make bench-bulk                           # or: python -m benchmarks.bench_bulk

The throughput is that of the second half of each run, when all engines have started. The costs per
row are those of runs with a scorer that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qwen3_reranker import Reranker
from qwen3_reranker.bulk import BulkProgress, files, rerank_dataset, rerank_files

from benchmarks import record
from benchmarks.work import make_queries, make_work
from support.bulk import CrcScorer
from support.helpers import SETTINGS

DOCUMENTS = 32
# The partitions are smaller than in real runs, so that short runs have many of them.
PARTITION = 100_000
Rows = list[dict[str, Any]]


class Marks:
    """When how many documents were done."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.marks: list[tuple[float, int]] = []

    def __call__(self, progress: BulkProgress) -> None:
        self.add(progress.documents)

    def add(self, documents: int) -> None:
        self.marks.append((time.perf_counter(), documents))

    @property
    def first(self) -> float:
        """The seconds until the first documents were done."""
        return self.marks[0][0] - self.begun

    @property
    def rate(self) -> float:
        """The documents per second in the second half."""
        total = self.marks[-1][1]
        begun, before = next(mark for mark in self.marks if mark[1] >= total / 2)
        ended, after = next(mark for mark in self.marks if mark[1] == total)
        return (after - before) / (ended - begun)


def main() -> None:
    """Measure, print and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--queries", type=int, default=120, help="queries per run")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows", type=int, default=50_000, help="rows for the costs per row")
    parser.add_argument("--save", default="bulk", help="the name of the JSON file")
    arguments = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # for the actors
    files._SMALLEST_PARTITION = PARTITION
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = {
        "costs": costs(arguments.rows),
        "throughput": throughput(arguments.queries, arguments.turns),
    }
    record.save(arguments.save, {**numbers, **vars(arguments)})


def throughput(queries: int, turns: int) -> dict[str, Any]:
    """Return the documents per second of each way to score, and the shares of `rerank_many`."""
    work = make_work(make_queries(), 0, DOCUMENTS, queries)
    rows = [{"query": query, "documents": documents} for query, documents in work]
    found: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    # The engine of this process is shared with that of `rerank_files`, so it has started.
    for turn in range(turns):
        ways: dict[str, Callable[[Marks], None]] = {
            "rerank_many": lambda marks: many(work, marks),
            "files": lambda marks: of_files(rows, marks),
            "Ray, 1 engine": lambda marks: of_files(rows, marks, ray="local", concurrency=1),
            "Ray, 2 engines": lambda marks: of_files(rows, marks, ray="local", concurrency=2),
        }
        for name, run in ways.items():
            run(marks := Marks())
            found.setdefault(name, []).append(marks.rate)
            starts.setdefault(name, []).append(marks.first)
            share = marks.rate / found["rerank_many"][turn]
            print(
                f"{name:<16}{marks.rate:8.1f} documents/s  {share:.2f}  first after "
                f"{marks.first:.1f} s",
                flush=True,
            )
    return {
        "documents_per_second": {name: statistics.median(rates) for name, rates in found.items()},
        "shares": {
            name: statistics.median(
                rate / base for rate, base in zip(rates, found["rerank_many"], strict=True)
            )
            for name, rates in found.items()
        },
        "seconds_to_first": {name: statistics.median(first) for name, first in starts.items()},
    }


def many(work: Sequence[tuple[str, list[str]]], marks: Marks) -> None:
    done = 0
    with Reranker(**SETTINGS) as reranker:
        for hits in reranker.rerank_iter(work):
            marks.add(done := done + len(hits))


def of_files(rows: Rows, marks: Marks, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "in.jsonl")
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        rerank_files(source, Path(name, "out"), on_progress=marks, **{**SETTINGS, **options})


def costs(count: int) -> dict[str, float]:
    """Return the seconds per row of everything but scoring, and those until the first row."""
    import ray

    rows: Rows = [{"query": f"q{n}", "documents": ["a", "b"]} for n in range(count)]
    found = {}
    ways: dict[str, dict[str, Any]] = {"files": {}, "Ray": {"ray": "local", "concurrency": 1}}
    for name, options in ways.items():
        embedded: dict[str, Any] = {"model": None, "engine_args": None}
        of_files(rows, marks := Marks(), scorer=CrcScorer(), **embedded, **options)
        found[name] = 2 / marks.rate
        found[f"{name}, first"] = marks.first
    marks, done = Marks(), 0
    dataset = ray.data.from_items(rows, override_num_blocks=50)
    result = rerank_dataset(dataset, scorer=CrcScorer(), concurrency=1)
    for batch in result.iter_batches(batch_format="pyarrow", batch_size=None):
        marks.add(done := done + 2 * len(batch))
    found["dataset"], found["dataset, first"] = 2 / marks.rate, marks.first
    with Reranker(scorer=CrcScorer()) as reranker:
        begun = time.perf_counter()
        reranker.rerank_many([(row["query"], row["documents"]) for row in rows])
        found["rerank_many"] = (time.perf_counter() - begun) / count
    for name, seconds in found.items():
        unit = "s" if "first" in name else "µs per row"
        print(f"{name:<16}{seconds * (1 if 'first' in name else 1e6):8.1f} {unit}", flush=True)
    return found


if __name__ == "__main__":
    main()
