"""
What the engine's arguments are worth: the same work through the raw engine, one change at a time.

    make bench-levers                         # or: python -m benchmarks.bench_levers

Every variant is a process of its own, one after the other; the first is run again at the end, to
show how much the machine itself moves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.contenders import environment
from benchmarks.work import SHAPES, make_model, make_queries, make_work
from benchmarks.workers import Worker

VARIANTS: dict[str, dict[str, Any]] = {
    "as chosen": {},
    "steps of 8192 tokens": {"max_num_batched_tokens": 8192},
    "32 sequences at a time": {"max_num_seqs": 32},
    "blocks of 128 tokens": {"block_size": 128},
    "no prefix caching": {"enable_prefix_caching": False},
    "not compiled": {"enforce_eager": True},
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "engine core in the caller's process": {},
    "as chosen, again": {},
}
ENVIRONMENTS = {"engine core in the caller's process": {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}}
# Not an argument, but an order of the requests; measured with the first.
SORTED = "shortest documents first"
SIZES = {64: 3}
TURNS = 2


def main() -> None:
    """Measure, print, write the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--shape", choices=SHAPES, default="44M")
    parser.add_argument("--save", default="levers", help="the name of the JSON file")
    arguments = parser.parse_args()
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", arguments.shape)
        for name, args in VARIANTS.items():
            settings = json.dumps({"folder": str(model), "args": args})
            log = Path(folder) / "log"
            env = environment() | ENVIRONMENTS.get(name, {})
            with Worker("benchmarks.contenders:raw_with", settings, log, env) as worker:
                rates[name] = rate(worker, "raw")
                if not rates.keys() - {name}:
                    rates[SORTED] = rate(worker, "shortest_first")
            print(
                "\n".join(f"{n:<38}{r:8.1f} /s" for n, r in rates.items()), end="\n\n", flush=True
            )
    record.save(arguments.save, {"shape": arguments.shape, "rates": rates})


def rate(worker: Worker, mode: str) -> float:
    """Return documents a second, the median of the turns."""
    queries = make_queries()
    rates: list[float] = []
    for turn in range(TURNS + 1):
        outcomes = [
            worker.ask(mode, make_work(queries, turn, documents, number))
            for documents, number in SIZES.items()
        ]
        documents = float(sum(outcome.result for outcome in outcomes))
        rates.append(documents / sum(outcome.seconds for outcome in outcomes))
    return statistics.median(rates[1:])


if __name__ == "__main__":
    main()
