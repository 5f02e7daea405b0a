"""What can be converted: a complete, unquantized Qwen3 causal checkpoint in safetensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.safetensors import FLOATS, Tensor, decode, read_header

__all__ = ["INDEX", "SINGLE", "Source"]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_LM_HEAD = "lm_head.weight"
_EMBEDDING = "model.embed_tokens.weight"
# Of a hub repository, nothing that is not converted is loaded.
_NOT_LOADED = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*/*")


@dataclass(frozen=True)
class Source:
    """
    A checkpoint that can be converted.

    Attributes:
        folder: Where its files are.
        config: The content of its config.json.
        tensors: Every tensor by name, with its place.
        head: The matrix whose rows are the vocabulary's output weights.
        yes, no: The token ids of the two answers.
        tokenizer_config: The content of its tokenizer_config.json; empty if there is none.
        pad: The tokenizer's padding token; None if it has none.
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
        Open `model` (a folder, a hub name or "demo") and check that it can be converted.

        Raises:
            CheckpointError: It cannot be converted; with the reason.
        """
        _check_folder(Path(model).expanduser())
        try:
            checkpoint = Checkpoint.load(model, revision=revision, token=token)
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{model}: a JSON file of it cannot be read: {error}") from error
        name, config = checkpoint.model, checkpoint.config
        if checkpoint.kind != "causal":
            raise CheckpointError(
                f"{name} is a {checkpoint.kind} classifier already: what is converted is an "
                "original (causal) checkpoint"
            )
        if config.get("model_type", "qwen3") != "qwen3":
            raise CheckpointError(f"{name} has model_type={config['model_type']!r}, not 'qwen3'")
        quantization = config.get("quantization_config") or config.get("compression_config")
        if quantization:
            method = quantization.get("quant_method", "unknown")
            raise CheckpointError(
                f"{name} is quantised ({method}), and engines would take the new head for "
                "quantised too: convert the unquantised checkpoint, and quantise the result"
            )
        folder = Path(name)
        if not folder.is_dir():
            folder = _load(name, revision, token)
            _check_folder(folder)
        tensors = _tensors(folder)
        head = _head(folder, config, tensors)
        prompts = PromptBuilder(checkpoint.tokenizer)
        path = folder / "tokenizer_config.json"
        settings = _json(path) if path.is_file() else {}
        pad = _pad(settings, config, checkpoint.tokenizer)
        _check_rows(head, yes=prompts.yes, no=prompts.no)
        _check_tie(head, tensors.get(_LM_HEAD), [prompts.no, prompts.yes])
        return cls(folder, config, tensors, head, prompts.yes, prompts.no, settings, pad)


def _check_folder(path: Path) -> None:
    """Refuse a path that is not a folder of safetensors with all of its files in it."""
    _refuse_other_formats(path)
    if path.is_dir():
        _refuse_links_outwards(path)
        _check_index(path / INDEX)


def _refuse_links_outwards(folder: Path) -> None:
    """Refuse links to files elsewhere: their content would get into the converted folder."""
    root = folder.resolve()
    inside = [root]
    # The files of a snapshot in the hub's cache are links to the blobs of its repository.
    if root.parent.name == "snapshots" and root.parents[1].name.startswith("models--"):
        inside.append(root.parents[1] / "blobs")
    for path in sorted(folder.iterdir()):
        target = path.resolve()
        if path.is_symlink() and target.is_file() and not any(map(target.is_relative_to, inside)):
            raise CheckpointError(
                f"{path} is a symbolic link out of the folder, to {target}: if it belongs to the "
                "model, put the file itself there (cp -L)"
            )


def _check_index(index: Path) -> None:
    """Refuse an index that names anything but files of its own folder."""
    if not index.is_file():
        return
    places = _json(index).get("weight_map")
    if not isinstance(places, dict):
        raise CheckpointError(f"{index} has no weight_map, which tells which tensor is where")
    for shard in places.values():
        if not isinstance(shard, str) or shard in ("", ".", "..") or {*"/\\"} & {*shard}:
            raise CheckpointError(
                f"{index} names the shard {shard!r}, which is not a file of that folder: put all "
                "shards into the folder, and their plain names into the index"
            )


def _refuse_other_formats(path: Path) -> None:
    if path.is_file():
        kind = "a GGUF file" if path.suffix == ".gguf" else "a file"
        raise CheckpointError(
            f"{path} is {kind}; what is converted is a folder with config.json, tokenizer.json and "
            "*.safetensors, as Qwen publishes it, or a hub name"
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
            f"{path} holds GGUF weights, which llama.cpp reads; convert the safetensors checkpoint "
            "that they were made of"
        )
    if any(path.glob("*.bin")):
        raise CheckpointError(
            f"{path} holds its weights as PyTorch *.bin: load and save them once with transformers "
            "(save_pretrained writes safetensors), then convert the result"
        )


def _load(name: str, revision: str | None, token: str | bool | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name, revision=revision, token=token, ignore_patterns=list(_NOT_LOADED)
            )
        )
    except OSError as error:
        raise CheckpointError(f"the hub did not give {name}: {error}") from error


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of the checkpoint, each from the file that the loaders take it from."""
    index = folder / INDEX
    if not index.is_file():
        shards = sorted(folder.glob("*.safetensors"))
        if len(shards) != 1:
            raise CheckpointError(
                f"{folder} holds {len(shards)} safetensors files and no {INDEX} that tells which "
                "tensor is where"
            )
        return read_header(shards[0])
    places: dict[str, str] = _json(index)["weight_map"]
    if (folder / SINGLE).is_file() and SINGLE not in places.values():
        raise CheckpointError(
            f"{folder} holds {SINGLE} and an index that does not name it; some loaders take the "
            "one and some the other, so remove what is stale"
        )
    headers = {shard: read_header(folder / shard) for shard in sorted(set(places.values()))}
    lost = sorted(name for name, shard in places.items() if name not in headers[shard])
    if lost:
        raise CheckpointError(
            f"{folder}: the index names {len(lost)} tensors that its shards do not hold: {lost[:5]}"
        )
    return {name: headers[shard][name] for name, shard in places.items()}


def _head(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    tied = bool(config.get("tie_word_embeddings", False))
    name = _EMBEDDING if tied else _LM_HEAD
    head = tensors.get(name)
    if head is None:
        others = sorted(n for n in tensors if n.startswith(name.removesuffix("weight")))
        because = f"; it holds {others}: a quantised head has no rows to take" if others else ""
        raise CheckpointError(
            f"{folder} holds no {name}, from which the head is made with "
            f"tie_word_embeddings={str(tied).lower()}{because}"
        )
    if head.dtype not in FLOATS:
        raise CheckpointError(
            f"{folder}: {name} is {head.dtype}, a quantised head; the rows are taken from "
            f"{', '.join(FLOATS)}"
        )
    if len(head.shape) != 2 or head.shape[1] != config.get("hidden_size"):
        raise CheckpointError(
            f"{folder}: {name} has shape {list(head.shape)}, and config.json says hidden_size="
            f"{config.get('hidden_size')}"
        )
    if "lm_head.bias" in tensors:
        raise CheckpointError(f"{folder} has an lm_head.bias, which no Qwen3 model has")
    return head


def _check_rows(head: Tensor, **answers: int) -> None:
    for word, row in answers.items():
        if row >= head.shape[0]:
            raise CheckpointError(
                f"the tokenizer's id of {word!r} is {row}, and {head.name} has only "
                f"{head.shape[0]} rows: tokenizer and weights are of two models"
            )
        if not all(map(math.isfinite, decode(head.rows([row])[0], head.dtype))):
            raise CheckpointError(f"{head.file}: the row of {word!r} in {head.name} is not finite")


def _check_tie(head: Tensor, untied: Tensor | None, rows: list[int]) -> None:
    """Refuse a tied checkpoint with an output matrix of its own that says something else."""
    if untied is None or untied.name == head.name:
        return
    if (untied.dtype, untied.shape) != (head.dtype, head.shape) or (
        untied.rows(rows) != head.rows(rows)
    ):
        raise CheckpointError(
            f"{untied.file} holds {untied.name}, which differs from {head.name}, and config.json "
            "ties the two (tie_word_embeddings=true); loaders disagree on which counts: correct "
            "config.json, or remove the tensor"
        )


def _pad(settings: Mapping[str, Any], config: Mapping[str, Any], tokenizer: str) -> int | None:
    """Return the id that fills up short prompts of a batch: the tokenizer's, if it names one."""
    named = settings.get("pad_token")
    content = named.get("content") if isinstance(named, dict) else named
    ids = {token["content"]: int(token["id"]) for token in json.loads(tokenizer)["added_tokens"]}
    found = ids.get(content or "<|endoftext|>", config.get("pad_token_id"))
    return None if found is None else int(found)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content
