"""The settings of an engine, and the small files of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen3_reranker.errors import CheckpointError, ScoreError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.head import misread_head
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.problems import PROBLEMS
from qwen3_reranker.scorer import digest

__all__ = ["Backend", "EngineChoice", "EngineModel", "EngineSettings"]

Backend = Literal["vllm", "transformers"]
"""What runs a model."""

EngineChoice = Literal["auto", "vllm", "transformers"]
"""What may run a model, as users write it; "auto" decides by the system."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """
    The settings of an engine.

    Attributes:
        model: A hub name, the absolute path of a folder, or "demo".
        max_length: The maximum number of tokens in a prompt. None uses 8192, or the model's limit
            if that is lower.
        user_args: Arguments of the engine, which replace those that this package chooses.
        python: The interpreter whose vLLM runs the engine. None looks for one.
        check: Whether to score two questions with obvious answers when the engine has started.
        timeout: The number of seconds without a sign of life after which the process is ended.
        backend: What runs the model: vLLM in a process of its own, or transformers in this one.
        devices: The GPUs or core sets that the engine uses, see `devices.assign_devices`. Several
            if the model is divided among them. Empty for the default: all cores, or the first GPU.
    """

    model: str
    max_length: int | None
    user_args: Mapping[str, Any]
    python: str | None
    check: bool
    timeout: float
    backend: Backend = "vllm"
    devices: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """The devices, for people to read: "default" if they were not chosen."""
        return ",".join(self.devices) or "default"

    @property
    def key(self) -> str:
        """A digest of the settings, which may hold a token. Engines with equal keys are shared."""
        parts = [self.model, self.max_length, self.python, self.check, self.timeout, self.backend]
        return digest([*parts, self.devices, self.user_args])


@dataclass(frozen=True, slots=True)
class EngineModel:
    """
    A model's small files, as they were read.

    Attributes:
        checkpoint: The checkpoint.
        prompts: Builds the model's prompts.
        fingerprint: Identifies the weights, see `Checkpoint.fingerprint`.
        state: Tells whether the files have changed, see `Checkpoint.state`.
    """

    checkpoint: Checkpoint
    prompts: PromptBuilder
    fingerprint: str
    state: object

    @classmethod
    def read(cls, settings: EngineSettings) -> EngineModel:
        """
        Read the files of the model that the settings name.

        Raises:
            CheckpointError: It is not a Qwen3 reranker, or vLLM would give wrong scores with it.
        """
        revision = settings.user_args.get("revision")
        token = settings.user_args.get("hf_token")
        checkpoint = Checkpoint.load(settings.model, revision=revision, token=token)
        prompts = checkpoint.prompts(settings.max_length)
        vllm = settings.backend == "vllm" and settings.check
        if vllm and (reason := misread_head(checkpoint)) is not None:
            advice = PROBLEMS["quantized-head"].advice
            raise CheckpointError(f"{checkpoint.model}: {reason}. {advice}")
        return cls(
            checkpoint, prompts, checkpoint.fingerprint(revision), checkpoint.state(revision)
        )

    def logit(self, logits: Sequence[float]) -> float:
        """
        Return the log-odds of "yes" for one prompt.

        Args:
            logits: The engine's raw output: the log-odds themselves, or one logit per label.

        Raises:
            ScoreError: There are not as many numbers as this kind of checkpoint gives.
        """
        kind = self.checkpoint.kind
        if len(logits) != (2 if kind == "two-label" else 1):
            raise ScoreError(f"the engine gave {len(logits)} numbers for a {kind} model")
        return self.checkpoint.logit(logits)
