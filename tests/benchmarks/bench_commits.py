"""
Compare this tree with an earlier commit, on the same work and in one run.

    make bench-commits BENCH="--before COMMIT"    # or: python -m benchmarks.bench_commits ...

Each commit has its own process and its own engine. Their runs are interleaved, with the same new
queries and all options at their defaults. The ratios are medians of the turns' own ratios; "none"
compares the earlier commit with itself, and its deviation from 1 is the noise.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import tarfile
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import record
from benchmarks.work import ROOT, SHAPES, Work, make_model, make_queries, make_work
from benchmarks.workers import Modes, Worker

# Documents per query: queries per turn.
SIZES = {1: 40, 16: 20, 64: 6}
MODES = ("reranker", "langchain", "llama_index", "rerank_many")


def main() -> None:
    """Interleave the runs of both commits, print their ratios and save them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--before", required=True, metavar="COMMIT")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--save", default="commits", help="the name of the JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        sources = {
            "before": extract(arguments.before, root / "before"),
            "again": extract(arguments.before, root / "again"),
            "now": ROOT / "src",
        }
        model = make_model(root / "model", arguments.shape)
        workers = {
            name: stack.enter_context(
                Worker(
                    "benchmarks.bench_commits:load",
                    str(model),
                    root / f"{name}.log",
                    {"PYTHONPATH": f"{source}:{ROOT}/tests:{ROOT}/examples"},
                )
            )
            for name, source in sources.items()
        }
        ratios = measure(workers, arguments.turns)
    record.save(
        arguments.save,
        {
            "before": commit(arguments.before),
            "now": commit("HEAD"),
            "shape": arguments.shape,
            "turns": arguments.turns,
            "ratios": ratios,
        },
    )


def extract(name: str, folder: Path) -> Path:
    """Write the sources of a commit into a folder."""
    archive = subprocess.check_output(["git", "archive", name, "src"], cwd=ROOT)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder / "src"


def commit(name: str) -> str:
    """Return the hash and the subject of a commit."""
    return subprocess.check_output(
        ["git", "log", "-1", "--format=%h %s", name], cwd=ROOT, text=True
    ).strip()


def load(model: str) -> Modes:
    """Load the package that PYTHONPATH names, and return its modes."""
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from qwen3_reranker import Reranker
    from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
    from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

    reranker = Reranker(model, check=False, quiet=True, engine_args={"enforce_eager": True})
    reranker.score("warm up", ["a document"])
    compressor = LangChainRerank(reranker=reranker)
    postprocessor = LlamaIndexRerank(reranker=reranker)

    def langchain(work: Work) -> list[tuple[str, list[Document]]]:
        return [(query, [Document(text) for text in texts]) for query, texts in work]

    def llama_index(work: Work) -> list[tuple[str, list[NodeWithScore]]]:
        return [
            (query, [NodeWithScore(node=TextNode(text=text)) for text in texts])
            for query, texts in work
        ]

    def compress(queries: list[tuple[str, list[Document]]]) -> None:
        for query, documents in queries:
            compressor.compress_documents(documents, query)

    def postprocess(queries: list[tuple[str, list[NodeWithScore]]]) -> None:
        for query, nodes in queries:
            postprocessor.postprocess_nodes(nodes, query_str=query)

    def rerank(work: Work) -> None:
        for query, texts in work:
            reranker.rerank(query, texts, top_n=3)

    def rerank_many(work: Work) -> None:
        reranker.rerank_many(work, top_n=3)

    return {
        "reranker": lambda work: partial(rerank, work),
        "langchain": lambda work: partial(compress, langchain(work)),
        "llama_index": lambda work: partial(postprocess, llama_index(work)),
        "rerank_many": lambda work: partial(rerank_many, work),
    }


def measure(workers: dict[str, Worker], turns: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the time that each process takes, as a ratio to that of "before"."""
    queries = make_queries()
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'mode':<14}{'documents':>10}{'now':>8}{'none':>8}  wall-clock time, as ratios")
    for mode in MODES:
        for documents, number in SIZES.items():
            seconds: dict[str, list[float]] = {name: [] for name in workers}
            for turn in range(turns + 1):
                # Another process begins each turn.
                order = list(workers)[turn % 3 :] + list(workers)[: turn % 3]
                work = make_work(queries, turn, documents, number)
                for name in order:
                    outcome = workers[name].ask(mode, work)
                    if turn:  # the first turn warms up
                        seconds[name].append(outcome.seconds)
            found = {
                label: statistics.median(
                    a / b for a, b in zip(seconds[name], seconds["before"], strict=True)
                )
                for label, name in (("now", "now"), ("none", "again"))
            }
            ratios.setdefault(mode, {})[str(documents)] = found
            print(f"{mode:<14}{documents:>10}{found['now']:>8.3f}{found['none']:>8.3f}", flush=True)
    return ratios


if __name__ == "__main__":
    main()
