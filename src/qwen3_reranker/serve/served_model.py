"""Which model is to be served: its name, its kind, and its checkpoint where that can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qwen3_reranker.errors import CheckpointError, InputError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.model.published import POSITIONS, published
from qwen3_reranker.model.safetensors import read_header
from qwen3_reranker.serve.options import Kind

__all__ = ["ServedModel", "check_bias"]


@dataclass(frozen=True)
class ServedModel:
    """
    A model that an engine is told to serve.

    Attributes:
        name: A hub name, or a folder's absolute path.
        kind: "causal", "one-label" or "two-label".
        checkpoint: Its checkpoint; None where its files cannot be read here.
    """

    name: str
    kind: Kind
    checkpoint: Checkpoint | None

    @classmethod
    def find(cls, model: str | Path, kind: Kind | None) -> ServedModel:
        """
        Find a model by its folder, its hub name or "demo".

        Args:
            model: The folder, the hub name or "demo".
            kind: The checkpoint's kind, for a model whose files cannot be read here; None reads
                them. A folder is always read.

        Raises:
            InputError: `kind` is not the checkpoint's, or the name would be taken for an option.
            CheckpointError: The model is not a Qwen3 reranker that an engine could serve, or it
                cannot be read and `kind` is None.
        """
        name = str(model)
        folder = Path(name).expanduser()
        _refuse_gguf(name, folder)
        if name.startswith("-"):
            raise InputError(
                f"model={name!r} would be taken for an option: give a path or a hub name"
            )
        if name == "demo" or folder.is_dir():
            checkpoint = Checkpoint.load(name)
            if kind not in (None, checkpoint.kind):
                raise InputError(f"kind={kind!r}, but {name} is a {checkpoint.kind} checkpoint")
            return cls(str(Path(checkpoint.model).absolute()), checkpoint.kind, checkpoint)
        if kind is not None:
            return cls(name, kind, published(name) if kind == "causal" else None)
        known = published(name)
        if known is not None:
            return cls(name, known.kind, known)
        try:
            checkpoint = Checkpoint.load(name)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}. If {name} cannot be read here, say kind='causal' (an original, or one "
                "trained further), 'one-label' or 'two-label'"
            ) from error
        return cls(name, checkpoint.kind, checkpoint)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine, and not a name on the hub."""
        return Path(self.name).is_absolute()

    @property
    def positions(self) -> int:
        """The most tokens that it takes; those of the published models where it was not read."""
        return POSITIONS if self.checkpoint is None else self.checkpoint.limit

    def prompt_length(self, max_length: int | None) -> int:
        """
        Return the most tokens of a prompt.

        Args:
            max_length: None takes 8192, or the model's limit if lower.

        Raises:
            InputError: `max_length` is below 1.
            CheckpointError: `max_length` is above the model's limit.
        """
        if max_length is not None and max_length < 1:
            raise InputError(f"max_length={max_length} is below 1")
        if self.checkpoint is not None:
            return self.checkpoint.prompt_length(max_length)
        return max_length or DEFAULT_MAX_LENGTH


def check_bias(name: str) -> list[str]:
    """
    Return the notes on the bias of a two-label head, which SGLang wants.

    Raises:
        CheckpointError: A folder's head has none, and SGLang would fill it with random numbers.
    """
    files = sorted(Path(name).glob("*.safetensors")) if Path(name).is_dir() else []
    if not files:
        return [
            (
                "the checkpoint must have a score.bias (of zeros): SGLang's head has one, and "
                "fills it with random numbers where it is missing"
            )
        ]
    if not any("score.bias" in read_header(file) for file in files):
        raise CheckpointError(
            f"{name} has no score.bias, and SGLang would fill it with random numbers at every "
            "start: convert the original with `qwen3-reranker convert --for sglang`, which writes one "
            "of zeros"
        )
    return []


def _refuse_gguf(name: str, folder: Path) -> None:
    files = folder.is_dir() and any(folder.glob("*.gguf")) and not any(folder.glob("*.safetensors"))
    if files or re.search(r"[-_./]gguf(?![a-z])", name.lower()):
        raise CheckpointError(
            f"{name} is GGUF, which llama.cpp serves: llama-server -m FILE.gguf --rerank -c 8192; "
            "vLLM and SGLang take the safetensors checkpoint"
        )
