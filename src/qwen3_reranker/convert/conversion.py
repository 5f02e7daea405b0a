"""
Convert an original (causal) checkpoint to a sequence classifier without loading the model.

A causal reranker answers with the logits of "yes" and "no", which come from two rows of its output
matrix. The classifier's head consists of these two rows ([no, yes]) or of their difference. So a
conversion reads two rows, writes a shard of a few kilobytes and a config, and links the weights as
they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from qwen3_reranker.convert import files
from qwen3_reranker.convert.source import OTHER_FORMATS, Source
from qwen3_reranker.errors import CheckpointError, InputError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.layout import (
    CLASSIFIER,
    CONFIG,
    SCORE_BIAS,
    SCORE_WEIGHT,
    TOKENIZER_CONFIG,
)
from qwen3_reranker.model.safetensors import (
    INDEX,
    SINGLE,
    decode,
    encode,
    read_header,
    read_tensors,
    write_tensors,
)

__all__ = ["Conversion", "Engine", "convert"]

Engine = Literal["vllm", "sglang", "transformers"]
"""The program that will run a converted model."""

_HEAD_FILE = "score.safetensors"
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
    # sentence-transformers would put every pair into the chat template.
    "chat_template.jinja",
    "chat_template.json",
}
# Settings of the causal model as a reranker, which would be applied to the new head again.
_OMITTED_SETTINGS = {
    "classifier_from_token",
    "is_original_qwen3_reranker",
    "method",
    "num_labels",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "problem_type",
}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_Head = dict[str, tuple[str, list[int], bytes]]


@dataclass(frozen=True)
class Conversion:
    """
    The result of a conversion.

    Attributes:
        folder: The folder of the converted checkpoint.
        labels: The number of labels of its head, 1 or 2.
        yes: The token id of "yes", whose row went into the head.
        no: The token id of "no", whose row went into the head.
        dtype: The dtype of the head: "float32" for one label, the checkpoint's own for two.
        bias: Whether the head has a bias, which is zero.
        linked: The names of the files that are hard links to the source's files.
        copied: The names of the files that were copied.
        linked_bytes: The total size of the linked files.
        copied_bytes: The total size of the copied files.
    """

    folder: Path
    labels: int
    yes: int
    no: int
    dtype: str
    bias: bool
    linked: tuple[str, ...]
    copied: tuple[str, ...]
    linked_bytes: int
    copied_bytes: int


def convert(
    source: str | Path,
    target: str | Path,
    *,
    labels: Literal[1, 2] | None = None,
    engine: Engine | None = None,
    link: bool = True,
    progress: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Conversion:
    """
    Convert an original Qwen3-Reranker checkpoint to a sequence classifier.

    The model is never loaded: the files of the weights are hard-linked, or copied if that is not
    possible. `target` appears only when it is complete and its head has been read back and
    compared.

    Args:
        source: A folder, a Hugging Face name or "demo".
        target: A folder that does not exist yet or is empty.
        labels: 1 for a head that gives the logit yes - no; 2 for one that gives [no, yes]; None for
            what `engine` needs: 2 for "sglang", otherwise 1.
        engine: The program that will run the model: "vllm", "sglang" or "transformers". SGLang's
            head has a bias, which it fills with random numbers if the checkpoint has none, so a
            zero bias is written for "sglang". "vllm" and "transformers" get no bias. None writes
            one too, which all three accept, although transformers reports it as unexpected.
        link: False copies the weights even if they can be linked.
        progress: Whether to show a progress bar.
        revision: The branch, tag or commit on the Hub; None for the default branch.
        token: The Hub's access token; None for the one that is logged in.

    Returns:
        The folder, and a summary of what was written to it.

    Raises:
        CheckpointError: `source` cannot be converted; the message says why.
        InputError: `target` exists or cannot be created, or an argument is not valid.
    """
    if engine not in (None, "vllm", "sglang", "transformers"):
        raise InputError(f"engine={engine!r}: give 'vllm', 'sglang', 'transformers' or None")
    if labels is None:
        labels = 2 if engine == "sglang" else 1
    if labels not in (1, 2) or isinstance(labels, bool):
        raise InputError(f"labels={labels!r}: give 1 (yes - no) or 2 ([no, yes])")
    if engine == "sglang" and labels == 1:
        raise InputError(
            "labels=1 is not for SGLang, which gives every document the score 1.0 with one label: "
            "give 2 ([no, yes])"
        )
    target = Path(target).expanduser()
    # Before gigabytes are downloaded.
    files.check_target(target)
    opened = Source.open(str(source), revision, token)
    _check_names(opened)
    head = _make_head(opened, labels, bias=engine in (None, "sglang"))
    with files.atomic_folder(target) as folder:
        linked, copied = _transfer(opened, folder, link=link, progress=progress)
        if _has_chat_template(opened):
            _write_tokenizer_config(opened, folder)
        write_tensors(folder / _HEAD_FILE, head)
        _write_index(opened, folder)
        config = json.dumps(_make_config(opened, labels), indent=2, ensure_ascii=False)
        files.write(folder / CONFIG, config + "\n")
        _verify_written(opened, folder, labels)
    return Conversion(
        folder=target,
        labels=labels,
        yes=opened.yes,
        no=opened.no,
        dtype=_DTYPES[head[SCORE_WEIGHT][0]],
        bias=SCORE_BIAS in head,
        linked=tuple(linked),
        copied=tuple(copied),
        linked_bytes=sum(linked.values()),
        copied_bytes=sum(copied.values()),
    )


def _make_head(source: Source, labels: int, *, bias: bool) -> _Head:
    matrix = source.head
    no, yes = matrix.rows([source.no, source.yes])
    width = matrix.shape[1]
    if labels == 2:
        dtype, weight = matrix.dtype, no + yes
    else:
        # In fp32 the difference is exact except for its last bit. vLLM computes a head in fp32
        # whatever the model's dtype is, and other loaders round it.
        pairs = zip(decode(yes, matrix.dtype), decode(no, matrix.dtype), strict=True)
        dtype, weight = "F32", encode([y - n for y, n in pairs])
    head: _Head = {SCORE_WEIGHT: (dtype, [labels, width], weight)}
    if bias:
        head[SCORE_BIAS] = (dtype, [labels], bytes(len(weight) // width))
    return head


def _kept_tensors(source: Source) -> dict[str, str]:
    """Return the tensors of the classifier's body, each with the new name of its file."""
    return {
        name: _RENAMED if tensor.file.name == SINGLE else tensor.file.name
        for name, tensor in source.tensors.items()
        if not name.startswith(_OUTPUT)
    }


def _check_names(source: Source) -> None:
    """
    Reject a checkpoint with a shard whose name the conversion needs for another file.

    Raises:
        CheckpointError: There is such a shard.
    """
    taken = {tensor.file.name for tensor in source.tensors.values()}
    names = {_HEAD_FILE} | ({_RENAMED} if SINGLE in taken else set())
    if clash := sorted(names & taken):
        raise CheckpointError(
            f"{source.folder} has a shard named {clash[0]}, but the conversion writes a file of "
            "that name: rename the shard, in the index too"
        )


def _transfer(
    source: Source, folder: Path, *, link: bool, progress: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Link or copy all files that do not change; return the sizes of both kinds by name."""
    # This leaves out a shard that holds nothing but the output matrix.
    kept = _kept_tensors(source)
    weights = {kept[name]: source.tensors[name].file for name in kept}
    written = {TOKENIZER_CONFIG} if _has_chat_template(source) else set()
    others = {
        path.name: path
        for path in sorted(source.folder.iterdir())
        if path.is_file()
        and path.suffix not in _OMITTED_SUFFIXES
        and path.name not in _OMITTED_FILES | written
        and not path.name.startswith(".")
    }
    linked, copied = {}, {}
    sizes = {name: path.stat().st_size for name, path in (weights | others).items()}
    with tqdm(
        total=sum(sizes.values()),
        unit="B",
        unit_scale=True,
        desc="Converting",
        disable=not progress,
    ) as bar:
        for name, path in weights.items():
            if link and files.link(path, folder / name):
                linked[name] = sizes[name]
                bar.update(sizes[name])
            else:
                files.copy(path, folder / name, bar.update)
                copied[name] = sizes[name]
        for name, path in others.items():
            # People edit these small files; through a link that would change the source.
            files.copy(path, folder / name, bar.update)
            copied[name] = sizes[name]
    return linked, copied


def _has_chat_template(source: Source) -> bool:
    return "chat_template" in source.tokenizer_config


def _write_tokenizer_config(source: Source, folder: Path) -> None:
    """Write tokenizer_config.json without its chat template, which loaders would apply."""
    config = {k: v for k, v in source.tokenizer_config.items() if k != "chat_template"}
    text = json.dumps(config, indent=2, ensure_ascii=False)
    files.write(folder / TOKENIZER_CONFIG, text + "\n")


def _write_index(source: Source, folder: Path) -> None:
    kept = _kept_tensors(source)
    head = read_header(folder / _HEAD_FILE)
    weight_map = kept | dict.fromkeys(head, _HEAD_FILE)
    size = sum(source.tensors[name].size for name in kept) + sum(t.size for t in head.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    files.write(folder / INDEX, json.dumps(index, indent=2) + "\n")


def _make_config(source: Source, labels: int) -> dict[str, Any]:
    names = ["LABEL_0"] if labels == 1 else ["no", "yes"]
    config = {k: v for k, v in source.config.items() if k not in _OMITTED_SETTINGS}
    config |= {
        "architectures": [CLASSIFIER],
        "num_labels": labels,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    if source.pad is not None:
        # transformers uses it to find the last token of each row of a batch.
        config["pad_token_id"] = source.pad
    if not (config.get("dtype") or config.get("torch_dtype")):
        # Otherwise loaders guess it from the first tensor, which may be the fp32 head.
        config["torch_dtype"] = _DTYPES[source.head.dtype]
    return config


def _verify_written(source: Source, folder: Path, labels: int) -> None:
    """
    Read the result as a loader does, and compare it with the source.

    Raises:
        CheckpointError: It differs, because of a broken disk or a bug in this package.
    """
    tensors = read_tensors(folder)
    no, yes = (decode(row, source.head.dtype) for row in source.head.rows([source.no, source.yes]))
    score = tensors[SCORE_WEIGHT]
    rows = [decode(row, score.dtype) for row in score.rows(range(score.shape[0]))]
    if labels == 2:
        equal = rows == [no, yes]
    else:
        difference = [y - n for y, n in zip(yes, no, strict=True)]
        equal = rows == [decode(encode(difference), "F32")]
    bias = tensors.get(SCORE_BIAS)
    if bias is not None:
        with bias.file.open("rb") as file:
            file.seek(bias.start)
            equal = equal and not any(file.read(bias.size))
    for name, tensor in source.tensors.items():
        if not name.startswith(_OUTPUT):
            kept = tensors[name]
            layout = (tensor.dtype, tensor.shape, tensor.start, tensor.size)
            equal = equal and layout == (kept.dtype, kept.shape, kept.start, kept.size)
    kind = "one-label" if labels == 1 else "two-label"
    if not equal or Checkpoint.load(str(folder)).kind != kind:
        raise CheckpointError(
            f"the checkpoint written for {source.folder} reads back differently, so it was "
            "removed: check the disk, and try again"
        )
