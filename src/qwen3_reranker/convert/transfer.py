"""Link, copy or quantize the files of a checkpoint, and write the index of the result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from qwen3_reranker.convert import files
from qwen3_reranker.convert.compressed_tensors import is_linear, write_shard
from qwen3_reranker.convert.quantize import NumberFormat
from qwen3_reranker.convert.source import OTHER_FORMATS, Source
from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.layout import CONFIG, TOKENIZER_CONFIG
from qwen3_reranker.model.safetensors import INDEX, SINGLE, Tensor, read_header
from qwen3_reranker.model.template import TEMPLATES

__all__ = [
    "HEAD_FILE",
    "Transferred",
    "body",
    "check_names",
    "transfer",
    "write_chat_template",
    "write_index",
    "write_tokenizer_config",
]

HEAD_FILE = "score.safetensors"
"""The file of the classifier's head."""

_CHAT_TEMPLATE = "chat_template.jinja"
# Loaders look for an index only if no file has the name of a single one.
_RENAMED = "model-00001-of-00001.safetensors"
_OUTPUT = "lm_head."
# Files that hold weights, or say how the causal model is used.
_OMITTED_SUFFIXES = {".safetensors", *OTHER_FORMATS}
_OMITTED_FILES = {
    CONFIG,
    INDEX,
    "pytorch_model.bin.index.json",
    "generation_config.json",
    # sentence-transformers would compute the score from the causal model's logits.
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    # sentence-transformers would put every pair into the source's chat template.
    _CHAT_TEMPLATE,
    "chat_template.json",
}


@dataclass(frozen=True)
class Transferred:
    """
    The files that were transferred from a source, with their sizes in bytes.

    Attributes:
        linked: Hard links to the source's files.
        copied: Copies.
        quantized: Files with quantized weights.
    """

    linked: dict[str, int] = field(default_factory=dict)
    copied: dict[str, int] = field(default_factory=dict)
    quantized: dict[str, int] = field(default_factory=dict)


def body(source: Source) -> dict[str, Tensor]:
    """Return the tensors of the source that the classifier keeps: all but the output matrix."""
    return {name: t for name, t in source.tensors.items() if not name.startswith(_OUTPUT)}


def check_names(source: Source) -> None:
    """
    Reject a checkpoint with a shard whose name the conversion needs for another file.

    Raises:
        CheckpointError: There is such a shard.
    """
    taken = {tensor.file.name for tensor in source.tensors.values()}
    names = {HEAD_FILE} | ({_RENAMED} if SINGLE in taken else set())
    if clash := sorted(names & taken):
        raise CheckpointError(
            f"{source.folder} has a shard named {clash[0]}, but the conversion writes a file of "
            "that name: rename the shard, in the index too"
        )


def transfer(
    source: Source, folder: Path, *, quantize: NumberFormat | None, link: bool, progress: bool
) -> Transferred:
    """
    Quantize the weights if that is wanted, and link or copy all files that do not change.

    Args:
        source: The original checkpoint.
        folder: The folder to write to.
        quantize: The format of quantized weights; None leaves the weights as they are.
        link: False copies the weights even if they can be linked.
        progress: Whether to show a progress bar.

    Returns:
        The files that were written.
    """
    # This leaves out a shard that holds nothing but the output matrix.
    shards: dict[Path, dict[str, Tensor]] = {}
    for name, tensor in body(source).items():
        shards.setdefault(tensor.file, {})[name] = tensor
    others = _other_files(source)
    done = Transferred()
    sizes = {path: path.stat().st_size for path in (*shards, *others)}
    with tqdm(
        total=sum(sizes.values()),
        unit="B",
        unit_scale=True,
        desc="Converting" if quantize is None else "Quantizing",
        disable=not progress,
    ) as bar:
        for path, tensors in shards.items():
            target = folder / _new_name(path)
            if quantize is not None and any(map(is_linear, tensors.values())):
                write_shard(tensors, target, quantize, bar.update)
                done.quantized[target.name] = target.stat().st_size
            elif link and files.link(path, target):
                done.linked[target.name] = sizes[path]
                bar.update(sizes[path])
            else:
                files.copy(path, target, bar.update)
                done.copied[target.name] = sizes[path]
        for path in others:
            # People edit these small files; through a link that would change the source.
            files.copy(path, folder / path.name, bar.update)
            done.copied[path.name] = sizes[path]
    return done


def write_tokenizer_config(source: Source, folder: Path) -> None:
    """Write tokenizer_config.json without its chat template, which loaders would apply."""
    if _has_chat_template(source):
        config = {k: v for k, v in source.tokenizer_config.items() if k != "chat_template"}
        text = json.dumps(config, indent=2, ensure_ascii=False)
        files.write(folder / TOKENIZER_CONFIG, text + "\n")


def write_chat_template(folder: Path) -> None:
    """Write the chat template with which sentence-transformers' CrossEncoder writes the prompt."""
    files.write(folder / _CHAT_TEMPLATE, (TEMPLATES / "vllm_score.jinja").read_text("utf-8"))


def write_index(source: Source, folder: Path, done: Transferred) -> None:
    """
    Write the index, which says which file holds which tensor.

    Args:
        source: The original checkpoint.
        folder: The folder with all safetensors files of the classifier.
        done: What was transferred to it.
    """
    # A linked or copied shard may also hold what the classifier does not use.
    kept = {name: _new_name(tensor.file) for name, tensor in body(source).items()}
    written = {HEAD_FILE, *done.quantized}
    tensors = [
        tensor
        for path in sorted(folder.glob("*.safetensors"))
        for tensor in read_header(path).values()
        if path.name in written or kept.get(tensor.name) == path.name
    ]
    weight_map = {tensor.name: tensor.file.name for tensor in tensors}
    size = sum(tensor.size for tensor in tensors)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    files.write(folder / INDEX, json.dumps(index, indent=2) + "\n")


def _new_name(shard: Path) -> str:
    return _RENAMED if shard.name == SINGLE else shard.name


def _other_files(source: Source) -> list[Path]:
    """Return the files to copy that hold no weights."""
    written = {TOKENIZER_CONFIG} if _has_chat_template(source) else set()
    return [
        path
        for path in sorted(source.folder.iterdir())
        if path.is_file()
        and path.suffix not in _OMITTED_SUFFIXES
        and path.name not in _OMITTED_FILES | written
        and not path.name.startswith(".")
    ]


def _has_chat_template(source: Source) -> bool:
    return "chat_template" in source.tokenizer_config
