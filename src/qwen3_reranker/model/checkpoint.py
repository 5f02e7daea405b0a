"""
What kind of checkpoint a model is, read from its small files before anything is loaded.

Three kinds can be scored: the original causal model (Qwen/Qwen3-Reranker-*), and its
conversions to a sequence classifier with one label (logit = yes - no) or two ([no, yes]).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH, PromptBuilder
from qwen3_reranker.redaction import Secret

__all__ = ["DEMO_MODEL", "Checkpoint", "locate", "read_file"]

DEMO_MODEL = Path(__file__).parent / "demo_model"
_CAUSAL = "Qwen3ForCausalLM"
_CLASSIFIER = "Qwen3ForSequenceClassification"


@dataclass(frozen=True)
class Checkpoint:
    """
    A model that can be scored with.

    Attributes:
        model: What an engine is told to load: a folder or a hub name.
        kind: "causal", "one-label" or "two-label".
        config: The content of config.json.
        tokenizer: The content of tokenizer.json.
    """

    model: str
    kind: Literal["causal", "one-label", "two-label"]
    config: Mapping[str, Any]
    tokenizer: str

    @classmethod
    def load(
        cls, model: str, *, revision: str | None = None, token: str | bool | Secret | None = None
    ) -> Checkpoint:
        """
        Read config.json and tokenizer.json of `model`: a folder, a hub name or "demo".

        Args:
            model: What to read.
            revision: The hub's branch, tag or commit.
            token: The hub's access token; None takes the one that is logged in.

        Raises:
            CheckpointError: It is none of the three kinds, or a file is missing; with the reason.
        """
        token = Secret.of(token)  # shown by no traceback of what follows
        name = _folder_or_name(model)
        if Path(name).is_dir():
            _check_weights(Path(name))
        source = _Source(name, revision, token)
        config = json.loads(source.read("config.json"))
        kind = _kind(name, config)
        modules = source.read("modules.json", optional=True)
        if modules and "sentence_transformers.models.Pooling" in modules:
            raise CheckpointError(f"{name} is an embedding model: its modules.json pools vectors")
        return cls(name, kind, config, source.read("tokenizer.json"))

    @property
    def limit(self) -> int:
        """The most tokens that the model takes (`max_position_embeddings`)."""
        return int(self.config["max_position_embeddings"])

    @property
    def yes_label(self) -> int:
        """The place of "yes" among a two-label head's labels; 1 unless the config names them."""
        labels = {str(v).lower(): int(k) for k, v in self.config.get("id2label", {}).items()}
        return labels.get("yes", 1)

    def fingerprint(self, revision: str | None = None) -> str:
        """
        Identify these weights: by the names, sizes and times of a folder's files, or by a commit.

        Copies of a folder have different fingerprints, and so has a folder whose files were
        replaced by others of the same size and modification time.
        """
        folder = Path(self.model)
        if folder.is_dir():
            files = [
                f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
                for name, found in _files(folder).items()
            ]
            return "\n".join([str(folder.resolve()), *files])
        from huggingface_hub import try_to_load_from_cache

        # The path names the commit.
        found = try_to_load_from_cache(self.model, "config.json", revision=revision)
        return f"{self.model} {revision} {found}"

    def state(self, revision: str | None = None) -> object:
        """
        Return what changes when the files do: their sizes, modification times and inodes.

        Unlike the fingerprint it stays the same where a file gets another hard link, as `convert`
        makes. Of a hub's model it is the fingerprint.
        """
        folder = Path(self.model)
        if not folder.is_dir():
            return self.fingerprint(revision)
        files = _files(folder).items()
        return {name: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in files}

    def prompt_length(self, max_length: int | None) -> int:
        """
        Return the most tokens of a prompt.

        Args:
            max_length: None takes 8192 as the model card does, or the model's limit if lower.

        Raises:
            CheckpointError: `max_length` is above the model's limit.
        """
        if max_length is None:
            return min(DEFAULT_MAX_LENGTH, self.limit)
        if max_length > self.limit:
            raise CheckpointError(
                f"max_length={max_length} is above what {self.model} takes "
                f"(max_position_embeddings={self.limit}): give {self.limit} or less"
            )
        return max_length

    def prompts(self, max_length: int | None) -> PromptBuilder:
        """Return the builder of this model's prompts; `max_length` as in `prompt_length`."""
        return PromptBuilder(self.tokenizer, self.prompt_length(max_length))


def read_file(model: str, file: str) -> str:
    """
    Return the text of a model's file; the model is a folder, a hub name or "demo".

    Raises:
        CheckpointError: It is not there.
    """
    return _Source(_folder_or_name(model), None, None).read(file)


def locate(model: str) -> str:
    """
    Return a name that stands for the same model after a change of the working directory.

    That is the absolute path of a folder or file, with its symbolic links followed. A hub name and
    "demo" are returned unchanged.
    """
    path = Path(str(model)).expanduser()
    return str(path.resolve()) if model != "demo" and path.exists() else str(model)


def _folder_or_name(model: str) -> str:
    return str(DEMO_MODEL) if model == "demo" else locate(model)


def _files(folder: Path) -> dict[str, os.stat_result]:
    return {path.name: path.stat() for path in sorted(folder.iterdir()) if path.is_file()}


def _kind(name: str, config: Mapping[str, Any]) -> Literal["causal", "one-label", "two-label"]:
    architectures = config.get("architectures") or []
    if architectures == [_CAUSAL]:
        return "causal"
    if architectures != [_CLASSIFIER]:
        raise CheckpointError(
            f"{name} is no Qwen3 reranker: its config.json says architectures={architectures}, "
            f"not {_CAUSAL} (original) or {_CLASSIFIER} (converted)"
        )
    labels = config.get("num_labels") or len(config.get("id2label") or {}) or 2
    if labels == 1:
        return "one-label"
    if labels == 2:
        return "two-label"
    raise CheckpointError(
        f"{name} classifies into {labels} labels; a converted Qwen3 reranker has one (yes - no) "
        "or two ([no, yes])"
    )


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            raise CheckpointError(f"{folder} lacks weight shards that its index names: {missing}")
    elif not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise CheckpointError(
            f"{folder} holds no weights (*.safetensors): finish the download, or give a hub name"
        )


@dataclass(frozen=True)
class _Source:
    """Where a model's files come from: its folder, or the hub's cache."""

    name: str
    revision: str | None
    token: Secret | None

    def read(self, file: str, *, optional: bool = False) -> str:
        """Return a file's text; "" for an optional one that does not exist."""
        folder = Path(self.name)
        path = folder / file if folder.is_dir() else self._from_hub(file, optional=optional)
        if path is not None and path.is_file():
            return path.read_text("utf-8")
        if optional:
            return ""
        raise CheckpointError(f"{self.name} holds no {file}, so it is not a model folder")

    def _from_hub(self, file: str, *, optional: bool) -> Path | None:
        # Only the hub needs this library; a folder loads without.
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HFValidationError

        try:
            token = self.token
            path = hf_hub_download(
                self.name,
                file,
                revision=self.revision,
                token=None if token is None else token.reveal(),
            )
        except (OSError, HFValidationError) as error:
            if optional:
                return None
            raise CheckpointError(
                f"{self.name!r} is no folder here, and the hub gave no {file}: {error}"
            ) from None  # the hub's own frames hold the token
        return Path(path)
