"""The queries, documents and models of the benchmarks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

__all__ = ["SHAPES", "Work", "make_model", "make_queries", "make_work", "passages"]

ROOT = Path(__file__).resolve().parents[2]

Work = list[tuple[str, list[str]]]
"""Queries, each with its documents."""

_SMALL = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
# config.json of Qwen/Qwen3-Reranker-0.6B. The tokenizer is the demo model's, so all token ids
# are below 12,288.
_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151669,
}
# So small that most of the time is spent outside the model.
_TINY = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
}
SHAPES = {"tiny": _TINY, "44M": _SMALL, "0.6B": _LARGE}
"""Settings of config.json, by their name on the command line."""


def make_model(folder: Path, shape: str) -> Path:
    """Write a causal checkpoint of this shape, with random bf16 weights and the demo tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from support.checkpoints import copy_demo

    copy_demo(folder, torch_dtype="bfloat16", **SHAPES[shape])
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    make: Any = Qwen3ForCausalLM
    make(Qwen3Config.from_pretrained(folder)).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    return folder


@cache
def passages(longest: int | None = None) -> list[str]:
    """Return the standard library's docstrings, optionally only up to a number of characters."""
    import stdlib_docs

    texts = [doc.text for doc in stdlib_docs.load()]
    return [text for text in texts if longest is None or len(text) <= longest]


def make_queries() -> Iterator[str]:
    """Return the held-out questions in an endless cycle, each with a unique number in front."""
    lines = (ROOT / "examples/held_out_questions.jsonl").read_text("utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    # The number makes prefix caches useless beyond the fixed text before the query.
    return (f"{number}. {questions[number % len(questions)]}" for number in count(1))


def make_work(
    queries: Iterator[str], turn: int, documents: int, number: int, longest: int | None = None
) -> Work:
    """Return `number` new queries, each with its own documents."""
    rng = random.Random(f"{turn} {documents}")
    texts = passages(longest)
    return [(next(queries), rng.sample(texts, documents)) for _ in range(number)]
