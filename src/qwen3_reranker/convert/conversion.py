"""
From the original (causal) checkpoint to a sequence classifier, without loading the model.

A causal reranker answers with the logits of "yes" and "no": two rows of its output matrix. The
classifier's head is those two rows ([no, yes]), or their difference. So two rows are read, a
shard of some kilobytes and a config are written, and the weights are linked as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from qwen3_reranker.convert import files
from qwen3_reranker.convert.source import INDEX, SINGLE, Source
from qwen3_reranker.errors import CheckpointError, InputError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.safetensors import decode, encode, read_header, write_tensors

__all__ = ["Conversion", "Engine", "convert"]

Engine = Literal["vllm", "sglang", "transformers"]

_HEAD_FILE = "score.safetensors"
# Loaders look for an index only where no file has the single name.
_RENAMED = "model-00001-of-00001.safetensors"
_OUTPUT = "lm_head."
# Of the folder, what is another format of the weights, or says how the causal model is used.
_LEFT_OUT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack"}
_LEFT_OUT = {
    "config.json",
    INDEX,
    "pytorch_model.bin.index.json",
    "generation_config.json",
    # sentence-transformers would read the head out of the causal model's logits.
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    # Where there is one, sentence-transformers puts every pair into it.
    "chat_template.jinja",
    "chat_template.json",
}
# Settings of the causal model as a reranker, which would be applied to the head once more.
_LEFT_OUT_SETTINGS = {
    "classifier_from_token",
    "is_original_qwen3_reranker",
    "method",
    "num_labels",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "problem_type",
}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Head = dict[str, tuple[str, list[int], bytes]]


@dataclass(frozen=True)
class Conversion:
    """
    What a conversion did.

    Attributes:
        folder: The converted checkpoint.
        labels: How many its head has.
        yes, no: The token ids whose rows became the head.
        dtype: The head's: "float32" for one label, the checkpoint's own for two.
        bias: Whether the head has a bias, of zeros.
        linked: The files that are the source's own, under a second name.
        copied: The files that were copied.
        linked_bytes, copied_bytes: Their sizes together.
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
    Write the classifier of a causal Qwen3 reranker into the folder `target`.

    The model is never loaded: the weights' files are hard-linked, or copied where that is not
    possible. `target` appears when it is complete, and after its head was read back and compared.

    Args:
        source: A folder, a hub name or "demo".
        target: A folder that does not exist yet, or is empty.
        labels: 1 for the logit yes - no; 2 for [no, yes]; None for what `engine` needs, which is 2
            for "sglang" and 1 for all others.
        engine: What will serve it. SGLang's head has a bias, which it fills with random numbers
            where the checkpoint has none; "vllm" and "transformers" leave it out. None writes it,
            because the others accept it too (transformers reports it as unexpected).
        link: False copies the weights even if they could be linked.
        progress: Whether to show a progress bar.
        revision: The hub's branch, tag or commit.
        token: The hub's access token; None takes the one that is logged in.

    Raises:
        CheckpointError: `source` cannot be converted; with the reason.
        InputError: `target` is taken or cannot be created, or an argument cannot be used.
    """
    if engine not in (None, "vllm", "sglang", "transformers"):
        raise InputError(f"engine={engine!r}: give 'vllm', 'sglang', 'transformers' or None")
    if labels is None:
        labels = 2 if engine == "sglang" else 1
    if labels not in (1, 2) or isinstance(labels, bool):
        raise InputError(f"labels={labels!r}: give 1 (yes - no) or 2 ([no, yes])")
    if engine == "sglang" and labels == 1:
        raise InputError(
            "labels=1 is not for SGLang, which answers 1.0 to everything with one label: give 2 "
            "([no, yes])"
        )
    target = Path(target).expanduser()
    # First of all, before a hub is asked for gigabytes.
    files.check_target(target)
    found = Source.open(str(source), revision, token)
    _refuse_collisions(found)
    head = _head(found, labels, bias=engine in (None, "sglang"))
    with files.appearing(target) as folder:
        linked, copied = _place(found, folder, link=link, progress=progress)
        if _chats(found):
            _write_tokenizer_config(found, folder)
        write_tensors(folder / _HEAD_FILE, head)
        _write_index(found, folder)
        config = json.dumps(_config(found, labels), indent=2, ensure_ascii=False)
        files.write(folder / "config.json", config + "\n")
        _check(found, folder, labels)
    return Conversion(
        folder=target,
        labels=labels,
        yes=found.yes,
        no=found.no,
        dtype=_DTYPES[head["score.weight"][0]],
        bias="score.bias" in head,
        linked=tuple(linked),
        copied=tuple(copied),
        linked_bytes=sum(linked.values()),
        copied_bytes=sum(copied.values()),
    )


def _head(source: Source, labels: int, *, bias: bool) -> Head:
    """Return the head's tensors."""
    matrix = source.head
    no, yes = matrix.rows([source.no, source.yes])
    width = matrix.shape[1]
    if labels == 2:
        dtype, weight = matrix.dtype, no + yes
    else:
        # In fp32, where the difference is exact but for its last bit: vLLM computes a head in
        # fp32 whatever the model has, and the others round it as they load it.
        pairs = zip(decode(yes, matrix.dtype), decode(no, matrix.dtype), strict=True)
        dtype, weight = "F32", encode([one - other for one, other in pairs])
    head: Head = {"score.weight": (dtype, [labels, width], weight)}
    if bias:
        head["score.bias"] = (dtype, [labels], bytes(len(weight) // width))
    return head


def _kept(source: Source) -> dict[str, str]:
    """Return where each tensor that a classifier has lies: its name, and its file's new name."""
    return {
        name: _RENAMED if tensor.file.name == SINGLE else tensor.file.name
        for name, tensor in source.tensors.items()
        if not name.startswith(_OUTPUT)
    }


def _refuse_collisions(source: Source) -> None:
    """
    Refuse a checkpoint with a shard of a name that the conversion gives to another file.

    Raises:
        CheckpointError: There is one.
    """
    taken = {tensor.file.name for tensor in source.tensors.values()}
    names = {_HEAD_FILE} | ({_RENAMED} if SINGLE in taken else set())
    if clash := sorted(names & taken):
        raise CheckpointError(
            f"{source.folder} has a shard named {clash[0]}, which is the name of a file that the "
            "conversion writes: rename the shard, in the index too"
        )


def _place(
    source: Source, folder: Path, *, link: bool, progress: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Link or copy everything that stays as it is; return both kinds' names and sizes."""
    # A shard that holds nothing but the output matrix is dropped.
    kept = _kept(source)
    weights = {kept[name]: source.tensors[name].file for name in kept}
    written = {"tokenizer_config.json"} if _chats(source) else set()
    others = {
        path.name: path
        for path in sorted(source.folder.iterdir())
        if path.is_file()
        and path.suffix not in _LEFT_OUT_SUFFIXES
        and path.name not in _LEFT_OUT | written
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
            # Small, and edited by hand at times, which must not reach the source.
            files.copy(path, folder / name, bar.update)
            copied[name] = sizes[name]
    return linked, copied


def _chats(source: Source) -> bool:
    return "chat_template" in source.tokenizer_config


def _write_tokenizer_config(source: Source, folder: Path) -> None:
    """Write it without a chat template: the classifier scores what it is given."""
    config = {k: v for k, v in source.tokenizer_config.items() if k != "chat_template"}
    text = json.dumps(config, indent=2, ensure_ascii=False)
    files.write(folder / "tokenizer_config.json", text + "\n")


def _write_index(source: Source, folder: Path) -> None:
    kept = _kept(source)
    head = read_header(folder / _HEAD_FILE)
    places = kept | dict.fromkeys(head, _HEAD_FILE)
    size = sum(source.tensors[name].size for name in kept) + sum(t.size for t in head.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    files.write(folder / INDEX, json.dumps(index, indent=2) + "\n")


def _config(source: Source, labels: int) -> dict[str, Any]:
    names = ["LABEL_0"] if labels == 1 else ["no", "yes"]
    config = {k: v for k, v in source.config.items() if k not in _LEFT_OUT_SETTINGS}
    config |= {
        "architectures": ["Qwen3ForSequenceClassification"],
        "num_labels": labels,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    if source.pad is not None:
        # Where a row of a batch ends, transformers tells by this.
        config["pad_token_id"] = source.pad
    if not (config.get("dtype") or config.get("torch_dtype")):
        # Or loaders would guess from the first tensor, which may be the fp32 head.
        config["torch_dtype"] = _DTYPES[source.head.dtype]
    return config


def _check(source: Source, folder: Path, labels: int) -> None:
    """
    Read what was written as a loader does, and compare it with the source.

    Raises:
        CheckpointError: It is not what the source asks for; a disk or this package is broken.
    """
    places: Mapping[str, str] = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
    headers = {file: read_header(folder / file) for file in set(places.values())}
    tensors = {name: headers[file][name] for name, file in places.items()}
    no, yes = (decode(row, source.head.dtype) for row in source.head.rows([source.no, source.yes]))
    score = tensors["score.weight"]
    rows = [decode(row, score.dtype) for row in score.rows(range(score.shape[0]))]
    if labels == 2:
        right = rows == [no, yes]
    else:
        difference = [one - other for one, other in zip(yes, no, strict=True)]
        right = rows == [decode(encode(difference), "F32")]
    bias = tensors.get("score.bias")
    if bias is not None:
        with bias.file.open("rb") as file:
            file.seek(bias.start)
            right = right and not any(file.read(bias.size))
    for name, tensor in source.tensors.items():
        if not name.startswith(_OUTPUT):
            kept = tensors[name]
            same = (tensor.dtype, tensor.shape, tensor.start, tensor.size)
            right = right and same == (kept.dtype, kept.shape, kept.start, kept.size)
    kind = "one-label" if labels == 1 else "two-label"
    if not right or Checkpoint.load(str(folder)).kind != kind:
        raise CheckpointError(
            f"what was written for {source.folder} reads back differently; nothing was kept: look "
            "at the disk, and try again"
        )
