"""
Compare the embedded engine with its alternatives, on the same work and in one run.

    make bench-embedded                       # or: python -m benchmarks.bench_embedded [--turns 9]

Each contender (see contenders.py) is loaded once, in its own process. Runs are interleaved, one
contender at a time with the same work, so that machine noise affects all of them equally. vLLM's
prefix caches are emptied before each turn. The weights are random, because only time is measured.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from qwen3_reranker.model.checkpoint import Checkpoint

from benchmarks import record
from benchmarks.contenders import CHAINS, environment
from benchmarks.work import SHAPES, make_model, make_queries, make_work
from benchmarks.workers import Worker

# Documents per query: queries per turn.
SIZES = {64: 3, 256: 1}
PROCESSES = {
    "cross_encoder": ("cross_encoder",),
    "transformers": ("transformers",),
    "recipe": ("recipe", "recipe_8"),
    "llm_score": ("llm_score",),
    "raw": ("raw", "raw_batch"),
    "ours": ("reranker", "langchain", "llama_index", "chains", "rerank_many"),
}
# These take ten times as long as the others, so they skip every second turn.
SLOW = ("cross_encoder", "transformers", "recipe", "recipe_8")
SLOW_EVERY = 2
# The model card's single batch is padded to its longest document. At 64 documents this takes a
# minute per query, so it gets only one.
SLOWEST = "recipe"
# By default, LLM takes most of the machine's memory for its cache, and the next one is killed.
LITTLE_MEMORY = {"VLLM_CPU_KVCACHE_SPACE": "2"}
# The work of 32 concurrent chains, and the engine that it is compared with.
TOGETHER = ("raw_batch", "chains", "rerank_many")
CHAIN_DOCUMENTS = 8

Rates = dict[str, dict[str, list[float]]]
"""Documents per second by mode and documents per query, one number per turn."""


def main() -> None:
    """Load the contenders, interleave their runs, print the table and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--shape", choices=SHAPES, default="44M")
    parser.add_argument("--only", nargs="+", choices=PROCESSES, default=list(PROCESSES))
    parser.add_argument("--save", default="embedded", help="the name of the JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        model = make_model(root / "model", arguments.shape)
        workers = {
            name: stack.enter_context(
                Worker(
                    f"benchmarks.contenders:{name}",
                    str(model),
                    root / f"{name}.log",
                    environment() | LITTLE_MEMORY,
                )
            )
            for name in arguments.only
        }
        rates = compare(workers, arguments.turns)
        tokens = tokens_a_document(model, arguments.turns)
        loads = {name: worker.load_seconds for name, worker in workers.items()}
    print(table(rates))
    numbers = {"shape": arguments.shape, "rates": rates, "tokens": tokens, "load_seconds": loads}
    record.save(arguments.save, numbers)


def compare(workers: dict[str, Worker], turns: int) -> Rates:
    """Return the rates of all contenders, after a warm-up turn that is not counted."""
    rates: Rates = {}
    queries = make_queries()
    warm = make_work(queries, 0, CHAIN_DOCUMENTS, 2)
    for turn in range(turns + 1):
        for documents, number in [*SIZES.items(), (CHAIN_DOCUMENTS, CHAINS)]:
            work = make_work(queries, turn, documents, number)
            for name, worker in workers.items():
                for mode in PROCESSES[name]:
                    if (mode in TOGETHER) != (documents == CHAIN_DOCUMENTS):
                        continue
                    waits = turn % SLOW_EVERY != 1 if turn else documents != min(SIZES)
                    if mode in SLOW and waits:
                        continue
                    if mode == SLOWEST and documents != min(SIZES):
                        continue
                    asked = work[:1] if mode == SLOWEST else work
                    # Idle processes lose memory pages to the system; a short run brings them back.
                    worker.ask(mode, warm)
                    outcome = worker.ask(mode, asked)
                    assert outcome.result == documents * len(asked)
                    rate = outcome.result / outcome.seconds
                    print(
                        f"turn {turn}  {documents:>4} documents  {mode:<14}{rate:8.1f} /s",
                        flush=True,
                    )
                    if turn:
                        rates.setdefault(mode, {}).setdefault(str(documents), []).append(rate)
    return rates


def tokens_a_document(model: Path, turns: int) -> dict[str, float]:
    """Return the mean length of the scored prompts, in tokens."""
    builder = Checkpoint.load(str(model)).prompts(None)
    queries = make_queries()
    make_work(queries, 0, CHAIN_DOCUMENTS, 2)
    counts: dict[str, list[int]] = {}
    for turn in range(turns + 1):
        for documents, number in [*SIZES.items(), (CHAIN_DOCUMENTS, CHAINS)]:
            work = make_work(queries, turn, documents, number)
            lengths = [len(prompt.ids) for asked in work for prompt in builder.encode(*asked)]
            if turn:
                counts.setdefault(str(documents), []).extend(lengths)
    return {size: statistics.mean(lengths) for size, lengths in counts.items()}


def table(rates: Rates) -> str:
    """Return median documents per second, and the median ratio of Reranker to each contender."""
    lines = []
    for size in map(str, (*SIZES, CHAIN_DOCUMENTS)):
        for mode, by_size in rates.items():
            if size in by_size:
                line = f"{size:>5} {mode:<14}{statistics.median(by_size[size]):8.1f} /s"
                ours = "rerank_many" if mode in TOGETHER else "reranker"
                if ours in rates:
                    ratio = statistics.median(ratios(rates, ours, mode, size))
                    line += f"  {ours} x{ratio:8.2f}"
                lines.append(line)
    return "\n".join(lines)


def ratios(rates: Rates, one: str, other: str, size: str) -> list[float]:
    """Return the ratio of two contenders' rates, for each turn that both took part in."""
    ours, theirs = rates[one][size], rates[other][size]
    if (one in SLOW) != (other in SLOW):
        ours, theirs = (
            r if m in SLOW else r[::SLOW_EVERY] for m, r in ((one, ours), (other, theirs))
        )
    return [a / b for a, b in zip(ours, theirs, strict=True)]


if __name__ == "__main__":
    main()
