"""
How well answers are found that are hidden in long documents, and how the time grows with length.

    make bench-passages                    # or: python -m benchmarks.bench_passages

Each question has ten candidates, one of which answers it. Their texts are scored alone, and hidden
somewhere in the second half of documents that consist of unrelated texts: cut at the end, and by
passages. Without `--squad`, the texts are docstrings of Python's standard library, and the
questions are the demo's held-out ones. `--squad` reads the questions and paragraphs of a file in
SQuAD's format instead, such as XQuAD's.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import demo
import psutil

from qwen3_reranker import Reranker
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.prompt import PromptBuilder

import stdlib_docs

CANDIDATES = 10
MAX_LENGTH = 512
# Texts of which the prompt is certain to hold the whole.
LONGEST_TEXT = 300
LENGTHS = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
TURNS = 3


@dataclass(frozen=True)
class Question:
    """A question, the text that answers it, and the group of texts that it belongs to."""

    question: str
    text: str
    group: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--squad", type=Path, help="a file in SQuAD's format")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=2_000, help="the length of a document")
    parser.add_argument("--passage-tokens", type=int, default=[128, 256], nargs="*")
    arguments = parser.parse_args()
    builder = Checkpoint.load(arguments.model).prompts(None)
    everything = _squad(arguments.squad) if arguments.squad else _stdlib()
    lengths = builder.document_lengths([question.text for question in everything])
    usable = [q for q, n in zip(everything, lengths, strict=True) if n <= LONGEST_TEXT]
    choice = random.Random(14)
    asked = choice.sample([q for q in usable if q.question], arguments.questions)
    short = [_candidates(question, usable, choice) for question in asked]
    long = [
        [_hidden(text, usable, arguments.tokens, builder, choice) for text in texts]
        for texts in short
    ]
    print(f"{len(asked)} questions, {CANDIDATES} candidates, hidden in {arguments.tokens} tokens")
    base: dict[str, Any] = {"max_length": MAX_LENGTH, "engine_args": {"enforce_eager": True}}
    passages = base | {"long_documents": "passages"}
    _show("the texts alone", asked, short, Reranker(arguments.model, **base))
    _show("hidden, cut", asked, long, Reranker(arguments.model, **base))
    settings: list[dict[str, Any]] = [{"passage_tokens": n} for n in arguments.passage_tokens]
    settings += [settings[0] | {"max_passages": 4}, settings[0] | {"aggregate": "mean_top_3"}]
    for options in settings:
        title = "hidden, " + ", ".join(f"{name}={value}" for name, value in options.items())
        _show(title, asked, long, Reranker(arguments.model, **passages, **options))
    _time(asked[0].question, usable, builder, Reranker(arguments.model, **passages))


def _stdlib() -> list[Question]:
    """Return the demo's questions with the docstrings that answer them, and all docstrings."""
    texts = {doc.name: doc for doc in stdlib_docs.load()}
    held_out = map(json.loads, demo.HELD_OUT.read_text("utf-8").splitlines())
    asked = [(row["question"], texts.get(row["answers"][0])) for row in held_out]
    questions = [Question(q, doc.text, doc.module) for q, doc in asked if doc is not None]
    return questions + [Question("", doc.text, doc.module) for doc in texts.values()]


def _squad(file: Path) -> list[Question]:
    """Return the questions of a file in SQuAD's format, each with its paragraph."""
    return [
        Question(pair["question"], paragraph["context"], article.get("title") or str(number))
        for number, article in enumerate(json.loads(file.read_text("utf-8"))["data"])
        for paragraph in article["paragraphs"]
        for pair in paragraph["qas"]
    ]


def _candidates(question: Question, others: Sequence[Question], choice: random.Random) -> list[str]:
    """Return the right text, and after it texts of other groups."""
    foreign = sorted({other.text for other in others if other.group != question.group})
    return [question.text, *choice.sample(foreign, CANDIDATES - 1)]


def _hidden(
    text: str,
    others: Sequence[Question],
    tokens: int,
    builder: PromptBuilder,
    choice: random.Random,
) -> str:
    """Return a document with the text in its second half, and unrelated texts around it."""
    (wanted,) = [other.group for other in others if other.text == text][:1]
    around: list[str] = []
    length = 0
    while length < tokens:
        other = choice.choice(others)
        if other.group != wanted:
            around.append(other.text)
            length += builder.document_lengths([other.text])[0]
    around.insert(choice.randint(len(around) // 2, len(around)), text)
    return "\n\n".join(around)


def _show(
    title: str, asked: Sequence[Question], documents: Sequence[Sequence[str]], reranker: Reranker
) -> None:
    """Print how often the right document is the best one, and how long that took."""
    with reranker.warm_up():
        started = time.perf_counter()
        # The right one comes last, or ties would be counted as found.
        pairs = [(q.question, texts[::-1]) for q, texts in zip(asked, documents, strict=True)]
        ranked = reranker.rerank_many(pairs)
        seconds = time.perf_counter() - started
        tokens = reranker.stats().tokens
    found = sum(hits[0].index == CANDIDATES - 1 for hits in ranked) / len(ranked)
    print(f"{title:<52} hit@1 {found:.2f}  {seconds:6.1f} s  {tokens:>9,} tokens", flush=True)


def _time(
    question: str, texts: Sequence[Question], builder: PromptBuilder, reranker: Reranker
) -> None:
    """
    Print the prompt tokens and the CPU seconds for one document of each length.

    The seconds are the median of interleaved runs, and those of this process and of the engine, so
    that other programs matter little.
    """
    choice = random.Random(14)
    documents = {
        length: _hidden(texts[0].text, texts, length, builder, choice) for length in LENGTHS
    }
    seconds: dict[int, list[float]] = {length: [] for length in LENGTHS}
    prompts: dict[int, int] = {}
    with reranker.warm_up():
        reranker.score(question, [documents[LENGTHS[-1]]])
        for _ in range(TURNS):
            for length, document in documents.items():
                started = _cpu_seconds()
                prompts[length] = reranker.rerank(question, [document]).usage.tokens
                seconds[length].append(_cpu_seconds() - started)
    for length, document in documents.items():
        (tokens,) = builder.document_lengths([document])
        median = statistics.median(seconds[length])
        print(
            f"{tokens:>7,} tokens: {prompts[length] / tokens:5.2f} prompt tokens and "
            f"{1e6 * median / tokens:4.0f} µs for each"
        )


def _cpu_seconds() -> float:
    this = psutil.Process()
    used = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(times.user + times.system for times in used)


if __name__ == "__main__":
    main()
