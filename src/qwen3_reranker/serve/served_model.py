"""Find the model to serve: its name, its kind and, if it can be read, its checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qwen3_reranker.errors import CheckpointError, InputError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.head import folder_lacks_bias
from qwen3_reranker.model.layout import SCORE_BIAS
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.model.published import POSITIONS, published
from qwen3_reranker.model.template import TEMPLATE_TOKENS
from qwen3_reranker.paths import expand_user
from qwen3_reranker.problems import PROBLEMS
from qwen3_reranker.serve.options import Kind

__all__ = ["ServedModel", "check_bias"]


@dataclass(frozen=True)
class ServedModel:
    """
    A model that an engine is to serve.

    Attributes:
        name: A Hugging Face name, or the absolute path of a folder.
        kind: "causal", "one-label" or "two-label".
        checkpoint: The checkpoint; None if its files cannot be read here.
    """

    name: str
    kind: Kind
    checkpoint: Checkpoint | None

    @classmethod
    def find(cls, model: str | Path, kind: Kind | None) -> ServedModel:
        """
        Find a model.

        Args:
            model: A folder, a Hugging Face name or "demo".
            kind: The checkpoint's kind, for a model whose files cannot be read here; None to read
                them. That of a folder or a published model is known without it.

        Raises:
            InputError: `kind` is not the checkpoint's, or the name looks like an option.
            CheckpointError: The model is not a Qwen3 reranker that an engine could serve, or its
                files cannot be read and `kind` is None.
        """
        name = str(model)
        folder = expand_user(name)
        if name != "demo":
            _reject_gguf(name, folder)
        if name.startswith("-"):
            raise InputError(
                f"model={name!r} looks like an option: give a path or a Hugging Face name"
            )
        if name == "demo" or folder.is_dir():
            checkpoint = Checkpoint.load(name)
            _check_kind(name, checkpoint, kind)
            return cls(str(Path(checkpoint.model).absolute()), checkpoint.kind, checkpoint)
        known = published(name)
        if known is not None:
            _check_kind(name, known, kind)
            return cls(name, known.kind, known)
        if kind is not None:
            return cls(name, kind, None)
        try:
            checkpoint = Checkpoint.load(name)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}. If {name} cannot be read here, give kind='causal' (an original, "
                "fine-tuned or not), kind='one-label' or kind='two-label'"
            ) from error
        return cls(name, checkpoint.kind, checkpoint)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this machine, not a Hugging Face name."""
        return Path(self.name).is_absolute()

    @property
    def positions(self) -> int:
        """The maximum number of tokens; that of the published models if it was not read."""
        return POSITIONS if self.checkpoint is None else self.checkpoint.limit

    def prompt_length(self, max_length: int | None) -> int:
        """
        Return the maximum number of tokens in a prompt.

        Args:
            max_length: The maximum that the user wants; None for 8192, or the model's limit if
                that is lower.

        Raises:
            InputError: `max_length` has no room for more than the prompt's template.
            CheckpointError: `max_length` is above the model's limit.
        """
        if max_length is not None and max_length <= TEMPLATE_TOKENS:
            raise InputError(
                f"max_length={max_length} is too small: a prompt has {TEMPLATE_TOKENS} tokens "
                "besides query and document"
            )
        if self.checkpoint is not None:
            return self.checkpoint.prompt_length(max_length)
        return max_length or DEFAULT_MAX_LENGTH


def check_bias(name: str) -> list[str]:
    """
    Check that a two-label checkpoint has the bias that SGLang's head needs.

    Args:
        name: A Hugging Face name or the path of a folder.

    Returns:
        A list with a note for the user if the weights cannot be read here; otherwise an empty list.

    Raises:
        CheckpointError: There is no bias, so SGLang would fill it with random numbers.
    """
    advice = PROBLEMS["random-head-bias"].advice
    folder = Path(name)
    lacks = folder_lacks_bias(folder) if folder.is_dir() else None
    if lacks:
        raise CheckpointError(f"{name} has no {SCORE_BIAS}. {advice}")
    return [f"make sure that the checkpoint has a {SCORE_BIAS}. {advice}"] if lacks is None else []


def _check_kind(name: str, checkpoint: Checkpoint, kind: Kind | None) -> None:
    if kind not in (None, checkpoint.kind):
        raise InputError(f"kind={kind!r}, but {name} is a {checkpoint.kind} checkpoint")


def _reject_gguf(name: str, folder: Path) -> None:
    if folder.is_dir():
        found = any(folder.glob("*.gguf")) and not any(folder.glob("*.safetensors"))
    else:
        # The name of a repository or a file; those of the folders around it say nothing.
        found = re.search(r"(?:^|[-_.])gguf(?![a-z])", folder.name.lower()) is not None
    if found:
        raise CheckpointError(
            f"{name} is GGUF, which is for llama.cpp: llama-server -m FILE.gguf --rerank "
            f"-c {DEFAULT_MAX_LENGTH}. vLLM and SGLang need the safetensors checkpoint"
        )
