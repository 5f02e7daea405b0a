"""Compare the scores of a converted checkpoint with those of the original."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_reranker.convert.compressed_tensors import format_of
from qwen3_reranker.convert.emulation import load_quantized
from qwen3_reranker.convert.source import Source
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.errors import CheckpointError, InputError, MissingDependencyError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.probability import sigmoid
from qwen3_reranker.ranking import validate_query
from qwen3_reranker.reranker import Reranker

__all__ = ["GOLDEN_PAIRS", "Verification", "check_libraries", "verify"]

GOLDEN_PAIRS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "What is the capital of China?",
        (
            "The capital of China is Beijing.",
            "I want to eat an apple.",
            "Shanghai is the largest city of China by population, and its financial centre.",
        ),
    ),
    (
        "How do I split a path into its directory and its file name?",
        (
            "os.path.split(p): Split a pathname into the tuple (head, tail), tail the last part.",
            "os.getpid(): Return the current process id.",
            "shutil.copy(src, dst): Copy data and mode bits. Return the file's destination.",
        ),
    ),
    (
        "Wie wird aus Milch Käse?",
        (
            "Lab und Säure lassen das Milcheiweiß gerinnen; der Bruch wird gepresst und reift.",
            "Der Zug nach Köln fährt heute von Gleis 7.",
        ),
    ),
    (
        "光合作用需要什么?",
        (
            "植物利用阳光、水和二氧化碳进行光合作用,并释放氧气。",
            "长城全长超过两万公里。",
        ),
    ),
)
"""Queries with their documents, the relevant one first."""

# A correct conversion changes scores in fp32 by less than 1e-5.
_TOLERANCE = 2e-3
# Of the demo model, which is small and so more sensitive than larger ones, fp8 changes a score of
# `GOLDEN_PAIRS` by up to 0.09. Scales in the wrong order change some of them by more than 0.3.
_QUANTIZED_TOLERANCE = 0.15


@dataclass(frozen=True)
class Verification:
    """
    The scores that an original checkpoint and a converted one give the same pairs.

    Attributes:
        pairs: The query and the document of each pair.
        source: P(yes) of each pair from the original checkpoint, in [0, 1].
        target: P(yes) of each pair from the converted checkpoint, in [0, 1], or NaN if its weights
            give no number.
        tolerance: The largest difference that a correct conversion explains: 0.002, or 0.15 for
            quantized weights.
    """

    pairs: tuple[tuple[str, str], ...]
    source: tuple[float, ...]
    target: tuple[float, ...]
    tolerance: float

    @property
    def difference(self) -> float:
        """
        The largest absolute difference between the two scores of a pair, in [0, 1].

        NaN, which is not below any tolerance, if a checkpoint gives a pair no number.
        """
        differences = [abs(a - b) for a, b in zip(self.source, self.target, strict=True)]
        return math.nan if any(map(math.isnan, differences)) else max(differences)

    def __str__(self) -> str:
        """Return a table with a line per pair, and the largest difference."""
        lines = [f"{'causal':>8}  {'converted':>9}  {'difference':>10}  query | document"]
        for pair, a, b in zip(self.pairs, self.source, self.target, strict=True):
            query, document = (text if len(text) <= 40 else text[:39] + "…" for text in pair)
            lines.append(f"{a:8.5f}  {b:9.5f}  {abs(a - b):10.1e}  {query} | {document}")
        largest = f"largest difference: {self.difference:.1e}, tolerance: {self.tolerance}"
        return "\n".join([*lines, largest])


def check_libraries() -> None:
    """
    Check that the libraries that `verify` needs are installed.

    Raises:
        MissingDependencyError: transformers or torch cannot be imported.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"comparing scores needs transformers and torch ({error}): "
            "pip install 'qwen3-reranker[transformers]'"
        ) from error


def verify(
    source: str | Path,
    target: str | Path,
    *,
    pairs: Sequence[tuple[str, Sequence[str]]] = GOLDEN_PAIRS,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    token: str | bool | None = None,
) -> Verification:
    """
    Score pairs with an original and a converted checkpoint, and compare.

    Both run in transformers, one after the other. Of a checkpoint that `convert` has quantized, the
    inputs of the quantized layers are rounded to eight bits as vLLM rounds them.

    Args:
        source: The original checkpoint: a folder, a Hugging Face name or "demo".
        target: The converted checkpoint.
        pairs: Queries, each with its documents. None may be blank, because a reranker does not
            score blank documents with the model.
        dtype: The torch dtype of both models, or "auto" for their own. In bf16 the logits of the
            original are rounded to steps of up to 0.125, which can hide the effect of a
            conversion; fp32 takes four bytes per parameter.
        device: The torch device, such as "cpu" or "cuda".
        revision: The branch, tag or commit of `source` on the Hub that was converted; None for the
            default branch.
        token: The Hub's access token, for `source`; None for the one that is logged in.

    Returns:
        The scores of both checkpoints.

    Raises:
        CheckpointError: `source` is not an original checkpoint, or `target` not a converted one.
        InputError: An argument is not valid, such as pairs with a blank document.
        MissingDependencyError: transformers or torch is not installed.

    Example:
        >>> from qwen3_reranker.convert import convert, verify
        >>> folder = convert("Qwen/Qwen3-Reranker-0.6B", "converted", engine="sglang").folder
        >>> verify("Qwen/Qwen3-Reranker-0.6B", folder).difference < 1e-5
        True
    """
    check_libraries()
    _check_pairs(pairs)
    _check_dtype(dtype)
    converted = Checkpoint.load(str(target))
    if converted.kind == "causal":
        raise CheckpointError(f"{target} is an original checkpoint: give the converted one")
    original = Source.open(str(source), revision, token).folder
    scorer = TransformersScorer(str(original), dtype=dtype, device=device)
    with Reranker(scorer=scorer) as reranker:
        expected = [s for query, texts in pairs for s in reranker.score(query, list(texts))]
    return Verification(
        tuple((query, text) for query, texts in pairs for text in texts),
        tuple(expected),
        tuple(_scores(converted, pairs, dtype, device)),
        _TOLERANCE if format_of(converted.config) is None else _QUANTIZED_TOLERANCE,
    )


def _check_pairs(pairs: Sequence[tuple[str, Sequence[str]]]) -> None:
    if not pairs:
        raise InputError("pairs is empty: give queries, each with its documents")
    for query, texts in pairs:
        validate_query(query)
        if isinstance(texts, str):
            raise InputError(f"the documents of {query!r:.80} are a str: give a list of str")
        if not texts:
            raise InputError(f"{query!r:.80} has no documents: give at least one, or leave it out")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(
                    f"a document of {query!r:.80} is a {type(text).__name__}: give a str"
                )
            if not text.strip():
                raise InputError(
                    f"a document of {query!r:.80} is blank ({text!r:.80}): leave it out, because a "
                    "reranker does not score it with the model"
                )


def _check_dtype(dtype: str) -> None:
    import torch

    found = getattr(torch, str(dtype), None)
    if dtype != "auto" and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise InputError(
            f"dtype={dtype!r}: give the name of a torch dtype for floating-point numbers, such as "
            "'float32' or 'bfloat16', or 'auto'"
        )


def _scores(
    checkpoint: Checkpoint, pairs: Sequence[tuple[str, Sequence[str]]], dtype: str, device: str
) -> list[float]:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.model, padding_side="left")
    load = _load if format_of(checkpoint.config) is None else load_quantized
    model, missing = load(checkpoint.model, dtype)
    if missing:
        raise CheckpointError(
            f"{checkpoint.model} lacks {sorted(missing)}, which transformers fills with random "
            "numbers"
        )
    model = model.to(device).eval()
    prompts = checkpoint.prompts(None)
    scores: list[float] = []
    for query, texts in pairs:
        inputs = tokenizer.pad(
            {"input_ids": [prompt.ids for prompt in prompts.encode(query, texts)]},
            padding=True,
            return_tensors="pt",
        ).to(device)
        with torch.no_grad():
            logits = model(**inputs).logits.double().tolist()
        scores += [sigmoid(checkpoint.logit(row)) for row in logits]
    return scores


def _load(folder: str, dtype: str) -> tuple[Any, set[str]]:
    """Load a classifier; return it, and the names of the weights that the folder lacks."""
    from transformers import AutoModelForSequenceClassification

    loaded: Any = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=dtype, output_loading_info=True
    )
    model, info = loaded
    return model, set(info["missing_keys"])
