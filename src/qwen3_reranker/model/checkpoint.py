"""
Determine the kind of a checkpoint from its small files, before any weights are loaded.

Three kinds can score: the original causal model (Qwen/Qwen3-Reranker-*), and its conversions to a
sequence classifier with one label (logit = yes - no) or two labels ([no, yes]).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.hub import download_file
from qwen3_reranker.model.layout import CAUSAL, CLASSIFIER, CONFIG, TOKENIZER
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH, PromptBuilder
from qwen3_reranker.model.quantization import Quantization
from qwen3_reranker.model.safetensors import read_weight_map
from qwen3_reranker.redaction import Secret

__all__ = ["DEMO_MODEL", "Checkpoint", "folder_or_name", "locate", "read_file"]

DEMO_MODEL = Path(__file__).parent / "demo_model"


@dataclass(frozen=True)
class Checkpoint:
    """
    A Qwen3 reranker's checkpoint.

    Attributes:
        model: The folder or the hub name that an engine loads.
        kind: "causal" (the original), or "one-label" or "two-label" (converted).
        config: The content of config.json.
        tokenizer: The text of tokenizer.json.
    """

    model: str
    kind: Literal["causal", "one-label", "two-label"]
    config: Mapping[str, Any]
    tokenizer: str = field(repr=False)  # several megabytes

    @classmethod
    def load(
        cls, model: str, *, revision: str | None = None, token: str | bool | Secret | None = None
    ) -> Checkpoint:
        """
        Read the config.json and tokenizer.json of a model.

        Args:
            model: A folder, a hub name or "demo".
            revision: A branch, tag or commit on the hub. None uses the main branch.
            token: The hub's access token. None uses the one that is logged in.

        Raises:
            CheckpointError: It is none of the three kinds, or a file is missing or cannot be read.
            InputError: The token cannot be sent to the hub.
        """
        token = Secret.of(token)  # so that no traceback of what follows shows it
        name = folder_or_name(model)
        if os.path.isdir(name):  # noqa: PTH112  # Path.is_dir() raises errors
            _check_weights(Path(name))
        source = _Source(name, revision, token)
        config = _parse_config(name, source.read(CONFIG))
        kind = _kind(name, config)
        try:
            Quantization.of(config)
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from None
        modules = source.read("modules.json", optional=True)
        if modules and "sentence_transformers.models.Pooling" in modules:
            raise CheckpointError(f"{name} is an embedding model: its modules.json pools vectors")
        return cls(name, kind, config, source.read(TOKENIZER))

    @property
    def limit(self) -> int:
        """
        The maximum number of tokens that the model can read (`max_position_embeddings`).

        Raises:
            CheckpointError: The config.json has no such number.
        """
        limit = self.config.get("max_position_embeddings")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise CheckpointError(
                f"{self.model}: its config.json says max_position_embeddings={limit!r:.80}, which "
                "is not a number of tokens"
            )
        return limit

    @property
    def yes_label(self) -> int:
        """The index of "yes" among the two labels: 1, unless the config names the labels."""
        names = self.config.get("id2label") or {}
        return next((int(k) for k, v in names.items() if str(v).lower() == "yes"), 1)

    def logit(self, logits: Sequence[float]) -> float:
        """
        Return the log-odds of "yes" that the model's logits for one prompt stand for.

        Args:
            logits: One number per label of the head, 1 or 2.
        """
        if len(logits) == 1:
            return logits[0]
        return logits[self.yes_label] - logits[1 - self.yes_label]

    def fingerprint(self, revision: str | None = None) -> str:
        """
        Return a string that identifies these weights.

        For a folder it lists the name, size and times of each file, so that copies of a folder
        differ, and so does a folder after a file was replaced by another one of the same size and
        modification time. For a hub name it contains the commit.

        Args:
            revision: A branch, tag or commit on the hub. None uses the main branch.

        Raises:
            CheckpointError: The folder cannot be read.
        """
        folder = Path(self.model)
        if folder.is_dir():
            files = [
                f"{name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
                for name, stat in _files(folder).items()
            ]
            return "\n".join([str(folder.resolve()), *files])
        from huggingface_hub import try_to_load_from_cache

        # The path contains the commit.
        path = try_to_load_from_cache(self.model, CONFIG, revision=revision)
        return f"{self.model} {revision} {path}"

    def state(self, revision: str | None = None) -> object:
        """
        Return a value that changes when the files change: sizes, modification times and inodes.

        Unlike the fingerprint, it does not change when a file gets another hard link, as `convert`
        makes. For a hub name it is the fingerprint.

        Args:
            revision: A branch, tag or commit on the hub. None uses the main branch.

        Raises:
            CheckpointError: The folder cannot be read.
        """
        folder = Path(self.model)
        if not folder.is_dir():
            return self.fingerprint(revision)
        files = _files(folder).items()
        return {name: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in files}

    def prompt_length(self, max_length: int | None) -> int:
        """
        Return the maximum number of tokens in a prompt.

        Args:
            max_length: The number asked for. None uses 8192, as the model card does, or the
                model's limit if that is lower.

        Raises:
            CheckpointError: `max_length` is above the model's limit.
        """
        if max_length is None:
            return min(DEFAULT_MAX_LENGTH, self.limit)
        if max_length > self.limit:
            raise CheckpointError(
                f"max_length={max_length} is above the limit of {self.model} "
                f"(max_position_embeddings={self.limit}): give {self.limit} or less"
            )
        return max_length

    def prompts(self, max_length: int | None) -> PromptBuilder:
        """
        Return the builder of this model's prompts.

        Args:
            max_length: The maximum number of tokens in a prompt. None uses 8192, or the model's
                limit if that is lower.

        Raises:
            CheckpointError: `max_length` is above the model's limit, or the tokenizer is not that
                of a Qwen3 model.
        """
        return PromptBuilder(self.tokenizer, self.prompt_length(max_length))


def read_file(model: str, file: str) -> str:
    """
    Return the text of one of a model's files.

    Args:
        model: A folder, a hub name or "demo".
        file: The name of the file.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
    """
    return _Source(folder_or_name(model), None, None).read(file)


def locate(model: str) -> str:
    """
    Return a name that refers to the same model from every working directory.

    For a folder or file it is the absolute path, with symbolic links resolved. A hub name and
    "demo" are returned unchanged.
    """
    # Unlike the methods of Path, these functions raise no errors.
    path = os.path.expanduser(str(model))  # noqa: PTH111
    found = model != "demo" and os.path.exists(path)  # noqa: PTH110
    return str(Path(path).resolve()) if found else str(model)


def folder_or_name(model: str) -> str:
    """
    Return the path of a model's folder, or its hub name.

    "demo" is the demo model, even if the current folder contains one of that name.
    """
    return str(DEMO_MODEL) if model == "demo" else locate(model)


def _files(folder: Path) -> dict[str, os.stat_result]:
    try:
        return {path.name: path.stat() for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from None


def _parse_config(name: str, text: str) -> Mapping[str, Any]:
    """Return the content of a config.json."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: its config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{name}: its config.json is not a JSON object")
    return config


def _kind(name: str, config: Mapping[str, Any]) -> Literal["causal", "one-label", "two-label"]:
    architectures = config.get("architectures") or []
    if architectures == [CAUSAL]:
        return "causal"
    if architectures != [CLASSIFIER]:
        raise CheckpointError(
            f"{name} is not a Qwen3 reranker: its config.json says architectures="
            f"{architectures!r:.80}, not {CAUSAL} (original) or {CLASSIFIER} (converted)"
        )
    names = config.get("id2label") or {}
    if not isinstance(names, dict) or not {*names} <= {str(n) for n in range(len(names))}:
        raise CheckpointError(
            f"{name}: its config.json says id2label={names!r:.80}, which does not number the labels"
        )
    labels = config.get("num_labels") or len(names) or 2
    if labels == 1:
        return "one-label"
    if labels == 2:
        return "two-label"
    raise CheckpointError(
        f"{name} classifies into {labels!r:.80} labels; a converted Qwen3 reranker has one "
        "(yes - no) or two ([no, yes])"
    )


def _check_weights(folder: Path) -> None:
    weight_map = read_weight_map(folder)
    if weight_map is not None:
        shards = sorted(set(weight_map.values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise CheckpointError(f"{folder} lacks weight shards that its index names: {missing}")
    elif not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise CheckpointError(
            f"{folder} contains no weights (*.safetensors): finish the download, or give a hub name"
        )


@dataclass(frozen=True)
class _Source:
    """The source of a model's files: its folder, or the hub and its cache."""

    name: str
    revision: str | None
    token: Secret | None

    def read(self, file: str, *, optional: bool = False) -> str:
        """Return the text of a file, or "" for an optional file that does not exist."""
        if os.path.isdir(self.name):  # noqa: PTH112  # Path.is_dir() raises errors
            path: Path | None = Path(self.name, file)
        else:
            path = self._from_hub(file, optional=optional)
        try:
            if path is not None and path.is_file():
                return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path} is not UTF-8 text: {error}") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        if optional:
            return ""
        raise CheckpointError(f"{self.name} contains no {file}, so it is not a model folder")

    def _from_hub(self, file: str, *, optional: bool) -> Path | None:
        try:
            return download_file(self.name, file, self.revision, self.token)
        except CheckpointError:
            if optional:
                return None
            raise
