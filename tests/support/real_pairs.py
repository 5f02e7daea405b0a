"""Real questions and documents: the held-out questions and the standard library's docstrings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import stdlib_docs  # noqa: E402

__all__ = ["EXAMPLES", "real_pairs"]


def real_pairs(count: int) -> list[tuple[str, list[str]]]:
    """Return held-out questions with 10 documents each, including the right ones."""
    docs = {doc.name: doc.text for doc in stdlib_docs.load()}
    lines = (EXAMPLES / "held_out_questions.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines[::11]][:count]
    others = list(docs.values())
    pairs = []
    for index, question in enumerate(questions):
        answers = [docs[name] for name in question["answers"] if name in docs]
        pairs.append((question["question"], (answers + others[index::500])[:10]))
    return pairs
