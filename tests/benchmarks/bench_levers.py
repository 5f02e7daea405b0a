"""
Measure what each engine argument contributes: the raw engine, with one change at a time.

    make bench-levers                         # or: python -m benchmarks.bench_levers

Each variant runs in its own process, interleaved with the engine as this package configures it. The
last variant changes nothing: its deviation from 1.0 is the noise floor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from qwen3_reranker.convert import convert
from qwen3_reranker.convert.quantize import NumberFormat

from benchmarks import record
from benchmarks.bench_embedded import LITTLE_MEMORY
from benchmarks.contenders import environment
from benchmarks.work import SHAPES, make_model, make_queries, make_work
from benchmarks.workers import Worker

VARIANTS: dict[str, dict[str, Any]] = {
    "steps of 8192 tokens": {"max_num_batched_tokens": 8192},
    "32 sequences at a time": {"max_num_seqs": 32},
    "blocks of 128 tokens": {"block_size": 128},
    "no prefix caching": {"enable_prefix_caching": False},
    "not compiled": {"enforce_eager": True},
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "engine core in a process of its own": {},
    "int8 weights and inputs": {},
    "fp8 weights and inputs": {},
    "no change": {},
}
# Not an engine argument, but another checkpoint.
QUANTIZED: dict[str, NumberFormat] = {
    "int8 weights and inputs": "int8",
    "fp8 weights and inputs": "fp8",
}
ENVIRONMENTS = {"engine core in a process of its own": {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}}
# Not an engine argument, but the order of the requests.
SORTED = "shortest documents first"
DOCUMENTS, QUERIES = 64, 2
TURNS = 5

Ratios = dict[str, list[float]]
"""The throughput of each variant relative to the chosen arguments, one number per turn."""


def main() -> None:
    """Measure, print and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--shape", choices=SHAPES, default="44M")
    parser.add_argument(
        "--only", nargs="+", choices=VARIANTS, help="some of the variants; not saved"
    )
    parser.add_argument("--save", default="levers", help="the name of the JSON file")
    arguments = parser.parse_args()
    ratios: Ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = make_model(root / "model", arguments.shape)

        def worker(name: str) -> Worker:
            folder = model
            if name in QUANTIZED:
                folder = convert(model, root / name, quantize=QUANTIZED[name]).folder
            settings = json.dumps({"folder": str(folder), "args": VARIANTS.get(name, {})})
            env = environment() | LITTLE_MEMORY | ENVIRONMENTS.get(name, {})
            return Worker("benchmarks.contenders:raw_with", settings, root / "log", env)

        with worker("as chosen") as chosen:
            ratios[SORTED] = compare(chosen, chosen, "shortest_first")
            show(ratios, SORTED)
            for name in arguments.only or VARIANTS:
                with worker(name) as other:
                    ratios[name] = compare(chosen, other, "raw")
                show(ratios, name)
    if not arguments.only:
        record.save(arguments.save, {"shape": arguments.shape, "ratios": ratios})


def compare(chosen: Worker, other: Worker, mode: str) -> list[float]:
    """Return the relative throughput of a variant per turn, after a turn that is not counted."""
    queries = make_queries()
    found = []
    for turn in range(TURNS + 1):
        work = make_work(queries, turn, DOCUMENTS, QUERIES)
        found.append(chosen.ask("raw", work).seconds / other.ask(mode, work).seconds)
    return found[1:]


def show(ratios: Ratios, name: str) -> None:
    """Print the median of a variant."""
    print(f"{name:<38}{statistics.median(ratios[name]):6.2f}", flush=True)


if __name__ == "__main__":
    main()
