"""Open a checkpoint that can be converted: complete, unquantized, causal and in safetensors."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.checkpoint import Checkpoint, folder_or_name
from qwen3_reranker.model.hub import download_folder
from qwen3_reranker.model.layout import EMBEDDING, LM_HEAD, TOKENIZER_CONFIG
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.quantization import Quantization
from qwen3_reranker.model.safetensors import (
    FLOATS,
    INDEX,
    SINGLE,
    Tensor,
    decode,
    read_tensors,
    read_weight_map,
)
from qwen3_reranker.redaction import Secret

__all__ = ["OTHER_FORMATS", "Source"]

OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack")
"""The suffixes of files that hold weights in a format other than safetensors."""

_LM_HEAD_BIAS = "lm_head.bias"
# Files of a Hub repository that a conversion does not need.
_NOT_DOWNLOADED = (*(f"*{suffix}" for suffix in OTHER_FORMATS), "*/*")


@dataclass(frozen=True)
class Source:
    """
    A checkpoint that can be converted.

    Attributes:
        folder: The folder of its files.
        config: The content of its config.json.
        tensors: The location of every tensor by name.
        head: The output matrix, which has one row per token of the vocabulary.
        yes: The token id of "yes".
        no: The token id of "no".
        tokenizer_config: The content of its tokenizer_config.json; empty if there is none.
        pad: The id of the tokenizer's padding token; None if it has none.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)
    head: Tensor
    yes: int
    no: int
    tokenizer_config: Mapping[str, Any] = field(repr=False)
    pad: int | None

    @classmethod
    def open(cls, model: str, revision: str | None, token: str | bool | None) -> Source:
        """
        Open a checkpoint and check that it can be converted.

        Args:
            model: A folder, a Hugging Face name, which is downloaded, or "demo".
            revision: The branch, tag or commit on the Hub; None for the default branch.
            token: The Hub's access token; None for the one that is logged in.

        Raises:
            CheckpointError: It cannot be converted; the message says why.
        """
        location = folder_or_name(model)
        if os.path.exists(location):  # noqa: PTH110  # Path.exists() raises errors
            _check_folder(Path(location))
        checkpoint = Checkpoint.load(model, revision=revision, token=token)
        name, config = checkpoint.model, checkpoint.config
        if checkpoint.kind != "causal":
            raise CheckpointError(
                f"{name} is a {checkpoint.kind} classifier already: give an original (causal) "
                "checkpoint"
            )
        if config.get("model_type", "qwen3") != "qwen3":
            raise CheckpointError(f"{name} has model_type={config['model_type']!r}, not 'qwen3'")
        quantization = Quantization.of(config)
        if quantization is not None:
            raise CheckpointError(
                f"{name} is quantized ({quantization.name}), and engines would expect the new head "
                "to be quantized, too: convert the unquantized checkpoint, with quantize='int8' or "
                "'fp8'"
            )
        folder = Path(name)
        if not folder.is_dir():
            folder = download_folder(name, revision, Secret.of(token), ignored=_NOT_DOWNLOADED)
            _check_folder(folder)
        tensors = _find_tensors(folder)
        head = _find_head(folder, config, tensors)
        prompts = PromptBuilder(checkpoint.tokenizer)
        path = folder / TOKENIZER_CONFIG
        settings = _read_json(path) if path.is_file() else {}
        pad = _pad_token(settings, config, checkpoint.tokenizer)
        _check_rows(head, yes=prompts.yes, no=prompts.no)
        _check_tie(head, tensors.get(LM_HEAD), [prompts.no, prompts.yes])
        return cls(folder, config, tensors, head, prompts.yes, prompts.no, settings, pad)


def _check_folder(path: Path) -> None:
    """Reject a path that is not a folder of safetensors with all of its files in it."""
    _reject_other_formats(path)
    if path.is_dir():
        _reject_external_links(path)
        read_weight_map(path)


def _reject_external_links(folder: Path) -> None:
    """Reject links to files elsewhere, whose content would end up in the converted folder."""
    root = folder.resolve()
    allowed = [root]
    # The files of a snapshot in the Hub's cache are links to the blobs of its repository.
    if root.parent.name == "snapshots" and root.parents[1].name.startswith("models--"):
        allowed.append(root.parents[1] / "blobs")
    for path in sorted(folder.iterdir()):
        if not path.is_symlink():
            continue
        try:
            target = path.resolve()
        except RuntimeError as error:  # before Python 3.13
            raise CheckpointError(f"{path} is a symbolic link to itself") from error
        if target.is_file() and not any(map(target.is_relative_to, allowed)):
            raise CheckpointError(
                f"{path} is a symbolic link out of the folder, to {target}: if the file belongs to "
                "the model, replace the link by the file itself (cp -L)"
            )


def _reject_other_formats(path: Path) -> None:
    if path.is_file():
        kind = "a GGUF file" if path.suffix == ".gguf" else "a file"
        raise CheckpointError(
            f"{path} is {kind}: give a folder with config.json, tokenizer.json and *.safetensors, "
            "as Qwen publishes it, or a Hugging Face name"
        )
    if not path.is_dir() or any(path.glob("*.safetensors")) or (path / INDEX).is_file():
        if (path / "adapter_config.json").is_file():
            raise CheckpointError(
                f"{path} holds a PEFT adapter (adapter_config.json): merge it into its base model "
                "and save that (merge_and_unload, save_pretrained), then convert the result"
            )
        return
    if any(path.glob("*.gguf")):
        raise CheckpointError(
            f"{path} holds GGUF weights, which are for llama.cpp: convert the safetensors "
            "checkpoint that they were made from"
        )
    if any(path.glob("*.bin")):
        raise CheckpointError(
            f"{path} holds its weights as PyTorch *.bin: load and save them once with transformers "
            "(save_pretrained writes safetensors), then convert the result"
        )


def _find_tensors(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of the checkpoint, each from the file that loaders take it from."""
    weight_map = read_weight_map(folder)
    if weight_map is None:
        shards = sorted(folder.glob("*.safetensors"))
        if len(shards) != 1:
            raise CheckpointError(
                f"{folder} holds {len(shards)} safetensors files and no {INDEX}, which says which "
                "file holds which tensor"
            )
        return read_tensors(folder)
    if (folder / SINGLE).is_file() and SINGLE not in weight_map.values():
        raise CheckpointError(
            f"{folder} holds {SINGLE} and an index that does not name it. Some loaders take the "
            "one and some the other: remove the stale one"
        )
    tensors = read_tensors(folder)
    missing = sorted(
        name
        for name, shard in weight_map.items()
        if name not in tensors or tensors[name].file.name != shard
    )
    if missing:
        raise CheckpointError(
            f"{folder}: the index names {len(missing)} tensors that its shards do not hold: "
            f"{missing[:5]}"
        )
    return {name: tensors[name] for name in weight_map}


def _find_head(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    tied = bool(config.get("tie_word_embeddings", False))
    name = EMBEDDING if tied else LM_HEAD
    head = tensors.get(name)
    if head is None:
        others = sorted(n for n in tensors if n.startswith(name.removesuffix("weight")))
        because = f"; it holds {others}: a quantized head has no rows to copy" if others else ""
        raise CheckpointError(
            f"{folder} holds no {name}, from which the head is made with "
            f"tie_word_embeddings={str(tied).lower()}{because}"
        )
    if head.dtype not in FLOATS:
        raise CheckpointError(
            f"{folder}: {name} is {head.dtype}, a quantized head; the head can be made from "
            f"{', '.join(FLOATS)}"
        )
    if len(head.shape) != 2 or head.shape[1] != config.get("hidden_size"):
        raise CheckpointError(
            f"{folder}: {name} has shape {list(head.shape)}, but config.json says hidden_size="
            f"{config.get('hidden_size')}"
        )
    if _LM_HEAD_BIAS in tensors:
        raise CheckpointError(f"{folder} has an {_LM_HEAD_BIAS}, which no Qwen3 model has")
    return head


def _check_rows(head: Tensor, **answers: int) -> None:
    for word, row in answers.items():
        if row >= head.shape[0]:
            raise CheckpointError(
                f"the tokenizer's id of {word!r} is {row}, but {head.name} has only "
                f"{head.shape[0]} rows: tokenizer and weights belong to different models"
            )
        if not all(map(math.isfinite, decode(head.rows([row])[0], head.dtype))):
            raise CheckpointError(f"{head.file}: the row of {word!r} in {head.name} is not finite")


def _check_tie(head: Tensor, untied: Tensor | None, rows: list[int]) -> None:
    """Reject a tied checkpoint that also holds an output matrix with other values."""
    if untied is None or untied.name == head.name:
        return
    if (untied.dtype, untied.shape) != (head.dtype, head.shape) or (
        untied.rows(rows) != head.rows(rows)
    ):
        raise CheckpointError(
            f"{untied.file} holds {untied.name}, which differs from {head.name}, but config.json "
            "ties the two (tie_word_embeddings=true). Loaders disagree on which one counts: "
            "correct config.json, or remove the tensor"
        )


def _pad_token(
    settings: Mapping[str, Any], config: Mapping[str, Any], tokenizer: str
) -> int | None:
    """Return the id of the padding token; the one in the tokenizer's settings wins."""
    named = settings.get("pad_token")
    content = named.get("content") if isinstance(named, dict) else named
    ids = {token["content"]: int(token["id"]) for token in json.loads(tokenizer)["added_tokens"]}
    pad = ids.get(content or "<|endoftext|>", config.get("pad_token_id"))
    return None if pad is None else int(pad)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return content
