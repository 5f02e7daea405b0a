"""
Measure how well the demo model reranks, and the effect of a wrong template.

    python examples/training/evaluate_demo_model.py --data DATA [--model FOLDER] [--json FILE]

Each prompt is scored with transformers as plain text, one per row. Of the training code, only the
text of the prompt is used. DATA is a folder that contains load_data.py. Without it, only the
questions about the standard library are measured.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import demo_corpora as corpora

STDLIB = corpora.stdlib(held_out=None)

import torch
from demo_batches import first_stage
from demo_prompt import INSTRUCTION, PREFIX, SUFFIX
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = HERE.parent.parent / "src" / "qwen3_reranker" / "model" / "demo_model"
GRAVITY = (
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical"
    " objects and is responsible for the movement of planets around the sun."
)
PARTS = ["stdlib", "xquad", "scifact", "cranfield", "trec-dl19"]
Scorer = Callable[[str, list[str]], list[float]]


class Model:
    """The model, run with transformers."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.limit = limit
        self.yes, self.no = self.tokenizer.convert_tokens_to_ids(["yes", "no"])

    def right(self, query: str, texts: list[str]) -> list[float]:
        """Score with the right template."""
        return self._score([self.prompt(query, text) for text in texts])

    def bare(self, query: str, texts: list[str]) -> list[float]:
        """Score query and text without a template."""
        return self._score([f"{query}\n{self._cut(text)}" for text in texts])

    def doubled(self, query: str, texts: list[str]) -> list[float]:
        """Score with the template applied twice, as when client and server both write it."""
        return self._score([self.prompt(query, self.prompt(query, text)) for text in texts])

    def prompt(self, query: str, text: str) -> str:
        """Return the whole prompt."""
        body = f"<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {self._cut(text)}"
        return PREFIX + body + SUFFIX

    def _cut(self, text: str) -> str:
        if len(text) < self.limit * 2:
            return text
        ids = self.tokenizer.encode(text)
        return text if len(ids) <= self.limit else self.tokenizer.decode(ids[: self.limit])

    @torch.no_grad()
    def _score(self, prompts: list[str]) -> list[float]:
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
        scores = [0.0] * len(prompts)
        for start in range(0, len(order), 20):
            chosen = order[start : start + 20]
            batch = self.tokenizer([prompts[n] for n in chosen], padding=True, return_tensors="pt")
            logits = self.model(**batch, logits_to_keep=1).logits[:, -1]
            difference = (logits[:, self.yes] - logits[:, self.no]).double().sigmoid()
            for number, score in zip(chosen, difference.tolist(), strict=True):
                scores[number] = score
        return scores


def ranks(found: list[list[str]], right: list[set[str]]) -> dict[str, float]:
    """Return the hit@1 and MRR of rankings."""
    places = []
    for row, wanted in zip(found, right, strict=True):
        places.append(next((n for n, name in enumerate(row, 1) if name in wanted), 0))
    count = len(places)
    return {
        "hit@1": sum(place == 1 for place in places) / count,
        "MRR": sum(1 / place for place in places if place) / count,
    }


def rerank(score: Scorer, query: str, names: list[str], texts: list[str]) -> list[str]:
    """Return the names by descending score; equal scores keep their order."""
    scores = score(query, texts)
    return [names[n] for n in sorted(range(len(names)), key=lambda n: -scores[n])]


def standard_library(model: Model, path: Path) -> dict[str, Any]:
    """Measure the held-out questions: pairs, reranked BM25 results and wrong templates."""
    questions = corpora.read_questions(path)
    names, texts = STDLIB.names, STDLIB.passages
    place = {name: n for n, name in enumerate(names)}
    questions = [q for q in questions if any(a in place for a in q.answers)]
    right = [set(q.answers) for q in questions]
    found = first_stage(texts, [q.text for q in questions], 20)
    named = [[names[n] for n in row] for row in found]
    report: dict[str, Any] = {"questions": len(questions), "BM25": ranks(named, right)}
    report["BM25"]["recall@20"] = sum(
        bool(set(row) & wanted) for row, wanted in zip(named, right, strict=True)
    ) / len(right)
    for kind in ("right", "bare", "doubled"):
        score = getattr(model, kind)
        reranked = [
            rerank(score, q.text, row, [texts[place[name]] for name in row])
            for q, row in zip(questions, named, strict=True)
        ]
        report[f"template {kind}"] = ranks(reranked, right)
    rng = random.Random(0)
    above = relevant = irrelevant = 0
    for question, wanted in zip(questions, right, strict=True):
        good = next(place[name] for name in question.answers if name in place)
        other = rng.randrange(len(texts))
        while names[other] in wanted:
            other = rng.randrange(len(texts))
        a, b = model.right(question.text, [texts[good], texts[other]])
        above, relevant, irrelevant = above + (a > b), relevant + (a > 0.5), irrelevant + (b < 0.5)
    report["answer above a random document"] = above / len(questions)
    report["answers above 0.5"] = relevant / len(questions)
    report["random documents below 0.5"] = irrelevant / len(questions)
    return report


def xquad(model: Model, loader: Any, data: Path, count: int) -> dict[str, Any]:
    """Measure English XQuAD, which is not in the training data."""
    file = json.loads((data / "train/xquad/xquad.en.json").read_text(encoding="utf8"))
    paragraphs = [p for article in file["data"] for p in article["paragraphs"]]
    texts = [p["context"].strip() for p in paragraphs]
    pairs = [(qa["question"].strip(), n) for n, p in enumerate(paragraphs) for qa in p["qas"]]
    rng = random.Random(0)
    rng.shuffle(pairs)
    pairs = pairs[:count]
    above = 0
    for question, number in pairs:
        other = rng.choice([n for n in range(len(texts)) if n != number])
        a, b = model.right(question, [texts[number], texts[other]])
        above += a > b
    found = first_stage(texts, [question for question, _ in pairs], 20)
    wanted = {str(n): {str(number): 1} for n, (_, number) in enumerate(pairs)}
    first = {str(n): [str(x) for x in row] for n, row in enumerate(found)}
    second = {
        str(n): rerank(model.right, pairs[n][0], [str(x) for x in row], [texts[x] for x in row])
        for n, row in enumerate(found)
    }
    return {
        "questions": len(pairs),
        "paragraph above a random one": above / len(pairs),
        "BM25 nDCG@10": loader.ndcg(wanted, first)[0],
        "reranked nDCG@10": loader.ndcg(wanted, second)[0],
    }


def collection(model: Model, loader: Any, name: str, count: int) -> dict[str, Any]:
    """Rerank the 20 documents that a first stage ranks highest."""
    queries, documents, judged, run = loader.load_eval(name)
    chosen = [q for q in judged if q in queries and q in run][:count]
    judged = {q: judged[q] for q in chosen}
    second = {}
    for q in chosen:
        top = run[q][:20]
        second[q] = rerank(model.right, queries[q], top, [documents[d] for d in top])
        second[q] += run[q][20:]
    return {
        "queries": len(chosen),
        "first stage nDCG@10": loader.ndcg(judged, run)[0],
        "reranked nDCG@10": loader.ndcg(judged, second)[0],
    }


def main() -> None:
    """Measure the model, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--data", type=Path, help="folder with load_data.py")
    parser.add_argument("--questions", type=Path, default=HERE.parent / "held_out_questions.jsonl")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--count", type=int, default=10_000, help="queries of each collection")
    parser.add_argument("--only", nargs="*", default=PARTS, help="parts to measure")
    parser.add_argument("--limit", type=int, default=512, help="tokens of a passage")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    began = time.time()
    model = Model(args.model, args.limit)
    report: dict[str, Any] = {}

    def note(name: str, figures: dict[str, Any]) -> None:
        report[name] = figures
        print(json.dumps({name: figures}, indent=1), f"{time.time() - began:.0f} s", flush=True)

    capital = "What is the capital of China?"
    texts = ["The capital of China is Beijing.", GRAVITY]
    note("capital", dict(zip(("Beijing", "gravity"), model.right(capital, texts), strict=True)))
    scores = model.right("Explain gravity", texts)
    note("gravity", dict(zip(("Beijing", "gravity"), scores, strict=True)))
    if "stdlib" in args.only:
        note("standard library, held out", standard_library(model, args.questions))
    if args.data:
        loader = corpora.load_module(args.data / "load_data.py", "load_data")
        if "xquad" in args.only:
            note("xquad.en", xquad(model, loader, args.data, args.count))
        for name in ("scifact", "cranfield", "trec-dl19"):
            if name in args.only:
                note(name, collection(model, loader, name, args.count))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
