"""Training batches for the demo model: questions with their answers and hard negatives."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import bm25s
import torch
from demo_corpora import Question, Source
from demo_prompt import INSTRUCTION, Prompt
from torch import Tensor

INSTRUCTIONS = (
    "Given a question about Python, retrieve the documentation that answers it",
    "Given a how-to question, find the function, class or module that does it",
    "Retrieve text that answers the question",
    "Given a claim, find passages that support or refute it",
    "Given a title, retrieve the abstract of the paper",
    "Judge whether the passage contains the answer to the question",
    "Given a question, retrieve Wikipedia passages that answer it",
)


@dataclass
class Example:
    """A question with candidates (token ids), their target distribution and the right answers."""

    question: str
    bodies: list[list[int]]
    labels: list[float]
    gold: list[float]


@dataclass
class Pool:
    """A prepared source: token ids, groups, postings and the hard negatives of each pair."""

    source: Source
    bodies: list[list[int]]
    members: dict[str, list[int]] = field(default_factory=dict)
    postings: dict[str, list[int]] = field(default_factory=dict)
    hard: list[list[int]] = field(default_factory=list)

    def wrong(self, question: str, right: set[int], hard: list[int], rng: random.Random) -> int:
        """Draw a wrong passage; hard negatives are drawn more often."""
        for _ in range(20):
            kind = rng.random()
            if hard and kind < 0.45:
                found = rng.choice(hard)
            elif kind < 0.65:
                words = content_words(question)
                posted = self.postings.get(rng.choice(words)) if words else None
                found = rng.choice(posted) if posted else rng.randrange(len(self.bodies))
            elif kind < 0.8:
                group = self.source.groups[next(iter(right))]
                found = rng.choice(self.members[group])
            else:
                found = rng.randrange(len(self.bodies))
            if found not in right:
                return found
        return (max(right) + 1) % len(self.bodies)


def content_words(text: str) -> list[str]:
    """Return the words of a text that have more than three letters, in lower case."""
    return [word for word in re.findall(r"[^\W\d_]+", text.lower()) if len(word) > 3]


def make_pool(source: Source, prompt: Prompt, hard: int = 15) -> Pool:
    """Tokenize a source, and find the wrong passages that BM25 ranks first for its pairs."""
    pool = Pool(source, prompt.body([text[:3000] for text in source.passages]))
    for number, (group, text) in enumerate(zip(source.groups, source.passages, strict=True)):
        pool.members.setdefault(group, []).append(number)
        for word in set(content_words(text[:1500])):
            posted = pool.postings.setdefault(word, [])
            if len(posted) < 400:
                posted.append(number)
    if hard and source.pairs:
        texts = [text[:1500] for text in source.passages]
        found = first_stage(texts, [question for question, _ in source.pairs], hard)
        for (_, right), row in zip(source.pairs, found, strict=True):
            pool.hard.append([number for number in row if number not in right])
    return pool


def first_stage(passages: list[str], questions: list[str], count: int) -> list[list[int]]:
    """Return the passages that BM25 ranks first for each question, as in the demo's retriever."""
    retriever = bm25s.BM25()
    retriever.index(
        bm25s.tokenize(passages, stopwords="en", show_progress=False), show_progress=False
    )
    tokens = bm25s.tokenize(questions, stopwords="en", show_progress=False)
    found, _ = retriever.retrieve(tokens, k=min(count, len(passages)), show_progress=False)
    return [[int(number) for number in row] for row in found]


def pairs_example(pool: Pool, count: int, rng: random.Random) -> Example:
    """Draw a pair of a source, and wrong passages for its question."""
    number = rng.randrange(len(pool.source.pairs))
    question, right = pool.source.pairs[number]
    wrong = [pool.wrong(question, set(right), pool.hard[number], rng) for _ in range(count - 1)]
    gold = [1.0] + [0.0] * len(wrong)
    return Example(question, [pool.bodies[n] for n in (right[0], *wrong)], gold, gold)


class Asked:
    """Questions about the collection, with answers, BM25 results and a teacher's similarities."""

    def __init__(
        self,
        pool: Pool,
        questions: list[Question],
        teacher: Callable[[list[str]], Tensor],
        teacher_passages: Tensor,
        gold: float,
    ) -> None:
        place = {name: number for number, name in enumerate(pool.source.names)}
        rows = [(q.text, [place[a] for a in q.answers if a in place]) for q in questions]
        self.rows = [row for row in rows if row[1]]
        self.pool, self.gold = pool, gold
        texts = [text for text, _ in self.rows]
        self.found = first_stage(pool.source.passages, texts, 20)
        self.likeness = teacher(texts) @ teacher_passages.T
        self.near = self.likeness.topk(20).indices.tolist()

    def example(self, count: int, rng: random.Random) -> Example:
        """
        Draw a question and candidates as at test time: mostly BM25 results, always an answer.

        The answers get the share `gold` of the target distribution. The teacher's similarities
        decide the rest.
        """
        number = rng.randrange(len(self.rows))
        question, right = self.rows[number]
        chosen = list(dict.fromkeys(self.found[number]))
        rng.shuffle(chosen)
        chosen = chosen[: count - 3]
        answer = rng.choice(right)
        if answer not in chosen:
            chosen[-1] = answer
        near = self.near[number]
        chosen += [rng.choice(near), rng.choice(near), rng.randrange(len(self.pool.bodies))]
        chosen = list(dict.fromkeys(chosen))
        while len(chosen) < count:
            other = rng.randrange(len(self.pool.bodies))
            if other not in chosen:
                chosen.append(other)
        view = torch.softmax(self.likeness[number, chosen] * 18, 0)
        gold = torch.tensor([float(n in right) for n in chosen])
        labels = (1 - self.gold) * view + self.gold * gold / gold.sum()
        bodies = [self.pool.bodies[n] for n in chosen]
        return Example(vary(question, rng), bodies, labels.tolist(), gold.tolist())


def vary(question: str, rng: random.Random) -> str:
    """Randomly drop a word, the question mark or the capital letters."""
    words = question.split()
    if len(words) > 4 and rng.random() < 0.35:
        words.pop(rng.randrange(len(words)))
    text = " ".join(words)
    if rng.random() < 0.2:
        text = text.rstrip("?.")
    return text.lower() if rng.random() < 0.2 else text


def collate(
    examples: list[Example], prompt: Prompt, limit: int, rng: random.Random
) -> tuple[Tensor, ...]:
    """Return heads and tails with their lengths, the target distribution and the answers."""
    heads, tails = [], []
    for example in examples:
        instruction = rng.choice(INSTRUCTIONS) if rng.random() < 0.1 else INSTRUCTION
        heads.append(prompt.head(example.question[:400], instruction))
        tails += [prompt.tail(body, limit) for body in example.bodies]
    labels = torch.tensor([example.labels for example in examples])
    gold = torch.tensor([example.gold for example in examples])
    return (*pad(heads), *pad(tails), labels, gold)


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return the rows padded on the right, and their lengths."""
    length = max(map(len, rows))
    table = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    return table, torch.tensor([len(row) for row in rows])
