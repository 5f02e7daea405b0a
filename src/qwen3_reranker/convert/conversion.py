"""
Convert an original (causal) checkpoint to a sequence classifier without loading the model.

A causal reranker answers with the logits of "yes" and "no", which come from two rows of its output
matrix. The classifier's head consists of these two rows ([no, yes]) or of their difference. So a
conversion reads two rows, writes a shard of a few kilobytes and a config, and links the weights as
they are. Only to quantize them does it read all weights, one block at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qwen3_reranker.convert import files
from qwen3_reranker.convert.compressed_tensors import check_weights, quantization_config
from qwen3_reranker.convert.quantize import NumberFormat, check_format
from qwen3_reranker.convert.readback import verify_written
from qwen3_reranker.convert.source import Source
from qwen3_reranker.convert.transfer import (
    HEAD_FILE,
    body,
    check_names,
    transfer,
    write_chat_template,
    write_index,
    write_tokenizer_config,
)
from qwen3_reranker.errors import InputError
from qwen3_reranker.model.layout import CLASSIFIER, CONFIG, SCORE_BIAS, SCORE_WEIGHT
from qwen3_reranker.model.safetensors import decode, encode, write_tensors
from qwen3_reranker.paths import expand_user

__all__ = ["Conversion", "Engine", "convert"]

Engine = Literal["vllm", "sglang", "transformers"]
"""The program that will run a converted model."""

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
        quantization: The format of the quantized weights, "int8" or "fp8"; None if the weights are
            those of the source.
        linked: The names of the files that are hard links to the source's files.
        copied: The names of the files that were copied.
        linked_bytes: The total size of the linked files.
        copied_bytes: The total size of the copied files.
        quantized: The names of the files with quantized weights.
        quantized_bytes: The total size of these files.
    """

    folder: Path
    labels: int
    yes: int
    no: int
    dtype: str
    bias: bool
    quantization: NumberFormat | None
    linked: tuple[str, ...]
    copied: tuple[str, ...]
    linked_bytes: int
    copied_bytes: int
    quantized: tuple[str, ...]
    quantized_bytes: int


def convert(
    source: str | Path,
    target: str | Path,
    *,
    labels: Literal[1, 2] | None = None,
    engine: Engine | None = None,
    quantize: NumberFormat | None = None,
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

    With `quantize`, the weights of the linear layers are written in eight bits, with one scale per
    output channel, in the compressed-tensors format that vLLM reads; the engine quantizes the
    inputs of these layers, with one scale per token. Embeddings, norms and the head keep their
    dtype. The weights are read one block at a time, so the memory does not grow with the model.

    Args:
        source: A folder, a Hugging Face name or "demo".
        target: A folder that does not exist yet or is empty.
        labels: 1 for a head that gives the logit yes - no; 2 for one that gives [no, yes]; None for
            what `engine` needs: 2 for "sglang", otherwise 1.
        engine: The program that will run the model: "vllm", "sglang" or "transformers". SGLang's
            head has a bias, which it fills with random numbers if the checkpoint has none, so a
            zero bias is written for "sglang". "vllm" and "transformers" get no bias. None writes
            one too, which all three accept, although transformers reports it as unexpected. Only
            "transformers" writes a chat template, with which the CrossEncoder of
            sentence-transformers 5.4 or later puts pairs of texts into the prompt.
        quantize: "int8" or "fp8" (E4M3) to quantize the weights, which needs numpy; None leaves
            them as they are.
        link: False copies the weights even if they can be linked.
        progress: Whether to show a progress bar.
        revision: The branch, tag or commit on the Hub; None for the default branch.
        token: The Hub's access token; None for the one that is logged in.

    Returns:
        The folder, and a summary of what was written to it.

    Raises:
        CheckpointError: `source` cannot be converted; the message says why.
        InputError: `target` exists or cannot be created, or an argument is not valid, such as a
            token that cannot be sent.
        MissingDependencyError: `quantize` is given and numpy is not installed.
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
    check_format(quantize)
    target = expand_user(target)
    # Before gigabytes are downloaded.
    files.check_target(target)
    opened = Source.open(str(source), revision, token)
    check_names(opened)
    if quantize is not None:
        check_weights(body(opened).values())
    head = _make_head(opened, labels, bias=engine in (None, "sglang"))
    with files.atomic_folder(target) as folder:
        done = transfer(opened, folder, quantize=quantize, link=link, progress=progress)
        write_tokenizer_config(opened, folder)
        if engine == "transformers":
            write_chat_template(folder)
        write_tensors(folder / HEAD_FILE, head)
        write_index(opened, folder, done)
        config = _make_config(opened, labels, quantize)
        files.write(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        verify_written(opened, folder, labels, quantize)
    return Conversion(
        folder=target,
        labels=labels,
        yes=opened.yes,
        no=opened.no,
        dtype=_DTYPES[head[SCORE_WEIGHT][0]],
        bias=SCORE_BIAS in head,
        quantization=quantize,
        linked=tuple(done.linked),
        copied=tuple(done.copied),
        linked_bytes=sum(done.linked.values()),
        copied_bytes=sum(done.copied.values()),
        quantized=tuple(done.quantized),
        quantized_bytes=sum(done.quantized.values()),
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


def _make_config(source: Source, labels: int, quantize: NumberFormat | None) -> dict[str, Any]:
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
    if quantize is not None:
        config["quantization_config"] = quantization_config(quantize)
    return config
