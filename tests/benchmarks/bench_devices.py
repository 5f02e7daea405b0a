"""
Compare two engines, on half of this machine's cores each, with one engine on all cores.

    make bench-devices                        # or: python -m benchmarks.bench_devices

Both are loaded at the same time, in processes of their own, and score the same work in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import record
from benchmarks.bench_embedded import LITTLE_MEMORY
from benchmarks.work import SHAPES, make_model, make_queries, make_work
from benchmarks.workers import Worker

MODES = ("one query at a time", "all queries at once")
TURNS = 5


def main() -> None:
    """Measure, print and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--shape", choices=SHAPES, default="44M")
    parser.add_argument("--documents", type=int, default=64, help="documents per query")
    parser.add_argument("--queries", type=int, default=4, help="queries per turn")
    arguments = parser.parse_args()
    ratios: dict[str, list[float]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = make_model(root / "model", arguments.shape)

        def worker(engines: int) -> Worker:
            settings = json.dumps({"folder": str(model), "engines": engines})
            loader = "benchmarks.contenders:several"
            return Worker(loader, settings, root / f"log-{engines}", LITTLE_MEMORY)

        queries = make_queries()
        with worker(1) as one, worker(2) as two:
            for turn in range(TURNS + 1):
                for mode in MODES:
                    work = make_work(queries, turn, arguments.documents, arguments.queries)
                    before = one.ask(mode, work)
                    after = two.ask(mode, work)
                    if turn:  # the first one is not counted
                        ratios[mode].append(before.seconds / after.seconds)
    for mode, found in ratios.items():
        print(f"{mode:<22}{statistics.median(found):6.2f}  {min(found):.2f} to {max(found):.2f}")
    record.save("devices", {**vars(arguments), "ratios": ratios})


if __name__ == "__main__":
    main()
