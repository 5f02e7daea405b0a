"""Datasets and a scorer for the tests of the evaluation."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3_reranker import Prompt, Reranker, Scorer, Scores
from qwen3_reranker.evaluation import Dataset

QUERIES = {"q1": "copy a folder", "q2": "wait a second"}
DOCUMENTS = {
    "mkdir": "make a folder",
    "copytree": "copy a whole folder",
    "sleep": "wait for a second",
    "shuffle": "shuffle a list",
}
JUDGMENTS = {"q1": {"copytree": 2, "mkdir": 0}, "q2": {"sleep": 1}}
CANDIDATES = {"q1": ["mkdir", "copytree", "shuffle"], "q2": ["shuffle", "sleep"]}


class WordScorer(Scorer):
    """Scores a text by the share of the query's words that it has, and notes what it is asked."""

    model = "words"

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.fail_after = fail_after

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.asked += [(query, text, instruction) for text in texts]
        if self.fail_after is not None and len(self.asked) > self.fail_after:
            raise KeyboardInterrupt
        words = set(query.split())
        found = [len(words & set(text.split())) / len(words) for text in texts]
        if instruction == "invert":
            found = [1 - value for value in found]
        return Scores(found, [len(text) > 60 for text in texts])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return Prompt(query + document, [], truncated=False)

    async def fingerprint(self) -> str:
        return "words"


class RankScorer(WordScorer):
    """
    Puts the document "right" of each query at a rank that depends on the instruction.

    Args:
        ranks: The ranks by instruction and query, from 1.
    """

    def __init__(self, ranks: Mapping[str | None, Mapping[str, int]]) -> None:
        super().__init__()
        self.ranks = ranks

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        right = self.ranks[instruction][query] - 0.5
        places = [right if text == "right" else int(text.removeprefix("wrong")) for text in texts]
        return Scores([1 - place / 100 for place in places], [False] * len(texts))


def one_right(ranks: Mapping[str, int], others: int = 9) -> Dataset:
    """
    Return queries with the same candidates, of which one, "right", is relevant.

    Args:
        ranks: Its rank by the retriever for each query, from 1.
        others: The number of irrelevant candidates.
    """
    wrong = [f"wrong{number}" for number in range(1, others + 1)]
    return Dataset(
        {query: query for query in ranks},
        {text: text for text in [*wrong, "right"]},
        {query: {"right": 1} for query in ranks},
        {query: [*wrong[: rank - 1], "right", *wrong[rank - 1 :]] for query, rank in ranks.items()},
        name="one right",
    )


def small() -> Dataset:
    """Return the dataset of two queries."""
    return Dataset(QUERIES, DOCUMENTS, JUDGMENTS, CANDIDATES, name="small")


def synthetic(queries: int, candidates: int, seed: int = 0, length: int = 12) -> Dataset:
    """Return queries whose words occur in one document each, somewhere among the candidates."""
    rng = random.Random(seed)
    words = [f"w{number}" for number in range(500)]
    names = [f"d{number}" for number in range(max(queries, candidates))]
    documents = {name: " ".join(rng.choices(words, k=length)) for name in names}
    texts, judgments, found = {}, {}, {}
    for number in range(queries):
        right = names[number]
        texts[f"q{number}"] = " ".join(dict.fromkeys(rng.sample(documents[right].split(), 3)))
        judgments[f"q{number}"] = {right: 1}
        others = [name for name in rng.sample(names, candidates) if name != right]
        others.insert(rng.randrange(candidates), right)
        found[f"q{number}"] = others[:candidates]
    return Dataset(texts, documents, judgments, found, name="synthetic")


def reranker(scorer: Scorer | None = None, **settings: Any) -> Reranker:
    return Reranker(scorer=scorer or WordScorer(), **settings)


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def write_beir(folder: Path) -> Path:
    """Write the dataset of two queries as a BEIR folder, without candidates."""
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "queries.jsonl", [{"_id": q, "text": t} for q, t in QUERIES.items()])
    corpus = [{"_id": d, "title": "", "text": t} for d, t in DOCUMENTS.items()]
    write_jsonl(folder / "corpus.jsonl", corpus)
    rows = [f"{q}\t{d}\t{g}\n" for q, row in JUDGMENTS.items() for d, g in row.items()]
    text = "query-id\tcorpus-id\tscore\n" + "".join(rows)
    (folder / "qrels" / "test.tsv").write_text(text, "utf-8")
    return folder


def write_trec(folder: Path) -> Path:
    """Write the dataset of two queries as TREC files, with a run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in (("queries", QUERIES), ("corpus", DOCUMENTS)):
        (folder / f"{name}.tsv").write_text("".join(f"{k}\t{t}\n" for k, t in texts.items()))
    rows = [f"{q} 0 {d} {g}\n" for q, row in JUDGMENTS.items() for d, g in row.items()]
    (folder / "qrels.txt").write_text("".join(rows))
    run = [
        f"{query} Q0 {document} {rank} {-rank} tag\n"
        for query, ids in CANDIDATES.items()
        for rank, document in enumerate(ids, 1)
    ]
    (folder / "run.trec").write_text("".join(run))
    return folder
