"""
Measure how well the demo model reranks, and the effect of a wrong template.

    python examples/training/evaluate_demo_model.py [--data DATA] [--model FOLDER] [--json FILE]

Each prompt is scored with transformers as plain text, and the rankings are measured with
`qwen3_reranker.evaluation`, which needs `pip install 'qwen3-reranker[evaluation,transformers]'`. Of
the training code, only the text of the prompt is used. DATA is a folder that contains load_data.py.
Without it, only the questions about the standard library are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import demo_corpora as corpora

STDLIB = corpora.stdlib(held_out=None)

import torch
from demo_prompt import INSTRUCTION, PREFIX, SUFFIX
from transformers import AutoModelForCausalLM, AutoTokenizer

from qwen3_reranker import Prompt, Reranker, Scorer, Scores
from qwen3_reranker.evaluation import Dataset, System, evaluate

MODEL = HERE.parent.parent / "src" / "qwen3_reranker" / "model" / "demo_model"
GRAVITY = (
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical"
    " objects and is responsible for the movement of planets around the sun."
)
PARTS = ["stdlib", "xquad", "scifact", "cranfield", "trec-dl19"]
DEPTH = 20
BATCH = 20
Template = Callable[[str, str], str]
"""Returns the prompt for a query and a passage."""


class Model:
    """
    The model, run with transformers.

    Args:
        folder: The checkpoint.
        limit: The maximum number of tokens of a passage.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.limit = limit
        self.yes, self.no = self.tokenizer.convert_tokens_to_ids(["yes", "no"])

    def right(self, query: str, passage: str) -> str:
        """Return the prompt that the model was trained with."""
        body = f"<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {self.cut(passage)}"
        return PREFIX + body + SUFFIX

    def bare(self, query: str, passage: str) -> str:
        """Return query and passage without a template."""
        return f"{query}\n{self.cut(passage)}"

    def doubled(self, query: str, passage: str) -> str:
        """Return the prompt with the template applied twice, as if client and server wrote it."""
        return self.right(query, self.right(query, passage))

    def cut(self, passage: str) -> str:
        """Return a passage without what exceeds the limit."""
        if len(passage) < self.limit * 2:
            return passage
        ids = self.tokenizer.encode(passage)
        return passage if len(ids) <= self.limit else self.tokenizer.decode(ids[: self.limit])

    @torch.no_grad()
    def score(self, prompts: list[str]) -> list[float]:
        """Return P(yes) of each prompt."""
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        scores = [0.0] * len(prompts)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            texts = [prompts[index] for index in chosen]
            batch = self.tokenizer(texts, padding=True, return_tensors="pt")
            logits = self.model(**batch, logits_to_keep=1).logits[:, -1]
            difference = (logits[:, self.yes] - logits[:, self.no]).double().sigmoid()
            for index, score in zip(chosen, difference.tolist(), strict=True):
                scores[index] = score
        return scores

    def pair(self, query: str, first: str, second: str) -> list[float]:
        """Return P(yes) of two passages, with the right template."""
        return self.score([self.right(query, passage) for passage in (first, second)])


class TemplateScorer(Scorer):
    """
    Score with one template.

    Args:
        model: The model.
        template: Returns the prompt for a query and a passage.
    """

    def __init__(self, model: Model, template: Template) -> None:
        self.model = template.__name__
        self._model, self._template = model, template
        # One thread, because a tokenizer cannot be used by two at the same time.
        self._executor = ThreadPoolExecutor(max_workers=1)

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:  # noqa: ARG002
        """Return P(yes) of each text; the instruction is always the default one."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._score, query, texts)

    def _score(self, query: str, texts: Sequence[str]) -> Scores:
        values = self._model.score([self._template(query, text) for text in texts])
        return Scores(values, [self._model.cut(text) != text for text in texts])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:  # noqa: ARG002
        """Return the prompt for one document."""
        text = self._template(query, document)
        truncated = self._model.cut(document) != document
        return Prompt(text, self._model.tokenizer.encode(text), truncated)

    async def aclose(self) -> None:
        """End the thread that scores."""
        self._executor.shutdown()


def measure(
    model: Model,
    dataset: Dataset,
    metrics: Sequence[str],
    templates: Sequence[Template] = (),
) -> dict[str, dict[str, float]]:
    """Rerank a dataset with each template, by default with the right one; return the means."""
    with ExitStack() as stack:
        systems = []
        for template in templates or [model.right]:
            reranker = stack.enter_context(Reranker(scorer=TemplateScorer(model, template)))
            name = f"template {template.__name__}"
            systems.append(System(reranker=reranker, name=name, depth=DEPTH))
        report = evaluate(dataset, systems, metrics=metrics)
    print(report.table())
    return {system.name: system.metrics for system in report.systems}


def standard_library(model: Model, path: Path, count: int) -> dict[str, Any]:
    """Measure the held-out questions: reranked BM25 results, wrong templates, and pairs."""
    documents = dict(zip(STDLIB.names, STDLIB.passages, strict=True))
    questions = [q for q in corpora.read_questions(path) if documents.keys() & q.answers][:count]
    dataset = Dataset(
        {str(number): question.text for number, question in enumerate(questions)},
        documents,
        {str(number): dict.fromkeys(q.answers, 1) for number, q in enumerate(questions)},
        name="standard library, held out",
    ).retrieve("bm25", depth=DEPTH)
    metrics = ["hit@1", f"MRR@{DEPTH}", f"hit@{DEPTH}"]
    report: dict[str, Any] = {"questions": len(questions)}
    report |= measure(model, dataset, metrics, [model.right, model.bare, model.doubled])
    rng = random.Random(0)
    names = list(documents)
    above = relevant = irrelevant = 0
    for question in questions:
        answer = next(name for name in question.answers if name in documents)
        other = rng.choice(names)
        while other in question.answers:
            other = rng.choice(names)
        a, b = model.pair(question.text, documents[answer], documents[other])
        above, relevant, irrelevant = above + (a > b), relevant + (a > 0.5), irrelevant + (b < 0.5)
    report["answer above a random document"] = above / len(questions)
    report["answers above 0.5"] = relevant / len(questions)
    report["random documents below 0.5"] = irrelevant / len(questions)
    return report


def xquad(model: Model, data: Path, count: int) -> dict[str, Any]:
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
        a, b = model.pair(question, texts[number], texts[other])
        above += a > b
    dataset = Dataset(
        {str(n): question for n, (question, _) in enumerate(pairs)},
        {str(n): text for n, text in enumerate(texts)},
        {str(n): {str(number): 1} for n, (_, number) in enumerate(pairs)},
        name="xquad.en",
    ).retrieve("bm25", depth=DEPTH)
    return {
        "questions": len(pairs),
        "paragraph above a random one": above / len(pairs),
        **measure(model, dataset, ["nDCG@10"]),
    }


def collection(model: Model, loader: Any, name: str, count: int) -> dict[str, Any]:
    """Rerank the documents that a collection's own run ranks highest."""
    queries, documents, judged, run = loader.load_eval(name)
    chosen = [q for q in judged if q in queries and q in run][:count]
    dataset = Dataset(
        queries, documents, {q: judged[q] for q in chosen}, {q: run[q] for q in chosen}, name=name
    )
    return {"queries": len(chosen), **measure(model, dataset, ["nDCG@10"])}


def main() -> None:
    """Measure the model, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--data", type=Path, help="folder with load_data.py")
    parser.add_argument("--questions", type=Path, default=HERE.parent / "held_out_questions.jsonl")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--count", type=int, default=10_000, help="queries of each dataset")
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

    for name, query in {
        "capital": "What is the capital of China?",
        "gravity": "Explain gravity",
    }.items():
        beijing, gravity = model.pair(query, "The capital of China is Beijing.", GRAVITY)
        note(name, {"Beijing": beijing, "gravity": gravity})
    if "stdlib" in args.only:
        note("standard library, held out", standard_library(model, args.questions, args.count))
    if args.data:
        loader = corpora.load_module(args.data / "load_data.py", "load_data")
        if "xquad" in args.only:
            note("xquad.en", xquad(model, args.data, args.count))
        for name in ("scifact", "cranfield", "trec-dl19"):
            if name in args.only:
                note(name, collection(model, loader, name, args.count))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
