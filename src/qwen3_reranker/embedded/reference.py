"""
The model card's recipe in transformers, a reference to compare every other backend with.

It follows the script on huggingface.co/Qwen/Qwen3-Reranker-0.6B. It has its own tokenizer and
formatting and uses none of this package's prompt code, so that the two can be compared. Control
tokens in user text are read as control tokens, so do not use it for untrusted documents.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from qwen3_reranker.errors import CheckpointError, MissingDependencyError
from qwen3_reranker.model.checkpoint import Checkpoint, locate
from qwen3_reranker.model.prompt import Prompt, PromptBuilder
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION, PREFIX, SUFFIX
from qwen3_reranker.scorer import Scorer, Scores, digest
from qwen3_reranker.usage import Usage

__all__ = ["TransformersScorer"]


class TransformersScorer(Scorer):
    """
    Score with an original (causal) checkpoint in transformers (4.51 or later).

    Args:
        model: A hub name, a folder, or "demo".
        max_length: The maximum number of tokens in a prompt. None uses 8192, or the model's limit
            if that is lower.
        dtype: The name of a torch dtype, or "auto" for the checkpoint's own.
        device: The torch device, such as "cpu" or "cuda".
        batch_size: The number of documents per batch.

    Raises:
        CheckpointError: The model is not an original Qwen3 reranker.
    """

    def __init__(
        self,
        model: str,
        *,
        max_length: int | None = None,
        dtype: str = "auto",
        device: str = "cpu",
        batch_size: int = 8,
    ) -> None:
        self.model = locate(model)
        self._checkpoint = Checkpoint.load(self.model)
        if self._checkpoint.kind != "causal":
            raise CheckpointError(
                f"{model} is a {self._checkpoint.kind} classifier; the reference recipe reads "
                "the logits of an original (causal) checkpoint"
            )
        self._prompts = self._checkpoint.prompts(max_length)
        settings = [self._prompts.max_length, dtype, device, batch_size]
        self._fingerprint = digest(["transformers", self._checkpoint.fingerprint(), *settings])
        self._dtype = dtype
        self._device = device
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of each text.

        Args:
            query: The question or search text.
            texts: The texts to score.
            instruction: None uses the default instruction.

        Returns:
            The scores in [0, 1], in the order of the texts, and which texts were truncated.

        Raises:
            MissingDependencyError: transformers or torch is not installed.
        """
        return await asyncio.to_thread(self._score, query, texts, instruction)

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """Return this package's prompt of one document, which the recipe does not use."""
        return self._prompts.prompt(query, document, instruction)

    async def prompt_builder(self) -> PromptBuilder:
        """Return what writes this package's prompts."""
        return self._prompts

    async def fingerprint(self) -> str:
        """Return a digest of the model's files and the settings."""
        return self._fingerprint

    async def start(self, *, on_stage: Callable[[str], None] | None = None) -> None:  # noqa: ARG002
        """Load the model."""
        await asyncio.to_thread(self._load)

    async def aclose(self) -> None:
        """Drop the model."""
        self._loaded = None

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                try:
                    from transformers import AutoModelForCausalLM, AutoTokenizer
                except ImportError as error:
                    raise MissingDependencyError(
                        "the reference scorer needs transformers and torch: "
                        "pip install 'qwen3-reranker[transformers]'"
                    ) from error
                name = self._checkpoint.model
                tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
                model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=self._dtype)
                self._loaded = tokenizer, model.to(self._device).eval()
            return self._loaded

    def _score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        import torch

        tokenizer, model = self._load()
        yes = tokenizer.convert_tokens_to_ids("yes")
        no = tokenizer.convert_tokens_to_ids("no")
        prefix = tokenizer.encode(PREFIX, add_special_tokens=False)
        suffix = tokenizer.encode(SUFFIX, add_special_tokens=False)
        room = self._prompts.max_length - len(prefix) - len(suffix)
        instruction = DEFAULT_INSTRUCTION if instruction is None else instruction
        scores = Scores([], [])
        tokens = 0
        for start in range(0, len(texts), self._batch_size):
            bodies = [
                tokenizer.encode(
                    f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {text}",
                    add_special_tokens=False,
                )
                for text in texts[start : start + self._batch_size]
            ]
            prompts = [prefix + body[:room] + suffix for body in bodies]
            tokens += sum(map(len, prompts))
            inputs = tokenizer.pad(
                {"input_ids": prompts},
                padding=True,
                return_tensors="pt",
            ).to(self._device)
            with torch.no_grad(), self._lock:
                logits = model(**inputs).logits[:, -1, :]
            pairs = torch.stack([logits[:, no], logits[:, yes]], dim=1).float()
            probabilities = torch.nn.functional.log_softmax(pairs, dim=1)[:, 1].exp()
            scores.values.extend(probabilities.tolist())
            scores.truncated.extend(len(body) > room for body in bodies)
        return replace(scores, usage=Usage(scored=len(texts), tokens=tokens))
