"""What a checkpoint is and whether its head can be what it should be, from its small files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwen3_reranker.doctor.findings import Finding, finding_for_code
from qwen3_reranker.errors import CheckpointError, RerankerError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.safetensors import FLOATS, Tensor, decode, read_header

__all__ = ["check_model", "lacks_bias", "read_tensors"]

_HEAD, _BIAS, _EMBEDDING = "score.weight", "score.bias", "model.embed_tokens.weight"


def check_model(model: str) -> tuple[list[Finding], Checkpoint | None]:
    """Return what is found of a model (a folder, a hub name or "demo"), and the checkpoint."""
    try:
        checkpoint = Checkpoint.load(model)
        prompts = checkpoint.prompts(None)
    except (RerankerError, ValueError, KeyError) as error:
        return [
            finding_for_code(
                "model", "checkpoint", "checkpoint-unusable", str(error) or repr(error)
            )
        ], None
    findings = [
        Finding(
            "model",
            "checkpoint",
            "ok",
            f"{checkpoint.kind}, takes {checkpoint.limit} tokens: {checkpoint.model}",
        ),
        Finding(
            "environment",
            "tokenizer",
            "ok",
            f"found; yes is {prompts.yes}, no is {prompts.no}",
        ),
    ]
    if checkpoint.kind != "causal":
        findings += _check_head(checkpoint, prompts)
    return findings, checkpoint


def lacks_bias(folder: Path) -> bool | None:
    """Say whether a checkpoint has a head without a bias; None where its files are not here."""
    try:
        tensors = read_tensors(folder)
    except (CheckpointError, OSError, ValueError, KeyError):
        return None
    return _BIAS not in tensors if _HEAD in tensors else None


def read_tensors(folder: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a folder's safetensors files by name."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        files = [folder / name for name in sorted(names)]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} holds no safetensors files")
    return {name: tensor for file in files for name, tensor in read_header(file).items()}


def _check_head(checkpoint: Checkpoint, prompts: PromptBuilder) -> list[Finding]:
    folder = Path(checkpoint.model)
    if not folder.is_dir():
        return [Finding("model", "head", "unknown", "the weights are not in a folder here")]
    try:
        tensors = read_tensors(folder)
    except (CheckpointError, OSError, ValueError, KeyError) as error:
        return [finding_for_code("model", "head", "checkpoint-unusable", str(error))]
    labels = 2 if checkpoint.kind == "two-label" else 1
    found = tensors.get(_HEAD)
    if found is None or len(found.shape) != 2 or found.shape[0] != labels:
        shape = None if found is None else list(found.shape)
        return [
            finding_for_code(
                "model", "head", "head-missing", f"score.weight is {shape}, for {labels} label(s)"
            )
        ]
    findings = [_rows(checkpoint, prompts, tensors)]
    if labels == 2 and _BIAS not in tensors:
        findings.append(
            finding_for_code(
                "model",
                "head's bias",
                "random-head-bias",
                "two labels and no score.bias: vLLM needs none, SGLang leaves its own at what the "
                "memory holds",
                status="warning",
            )
        )
    return findings


def _rows(checkpoint: Checkpoint, prompts: PromptBuilder, tensors: Mapping[str, Tensor]) -> Finding:
    """Hold the head to the embedding's rows of yes and no, which tied checkpoints answer with."""
    table, found = tensors.get(_EMBEDDING), tensors[_HEAD]
    known = table is not None and {table.dtype, found.dtype} <= FLOATS.keys()
    if table is None or not known or not checkpoint.config.get("tie_word_embeddings"):
        return Finding("model", "head", "ok", f"{found.shape[0]} label(s)")
    yes, no = (decode(row, table.dtype) for row in table.rows([prompts.yes, prompts.no]))
    rows = [decode(row, found.dtype) for row in found.rows(range(found.shape[0]))]
    wanted = [y - n for y, n in zip(yes, no, strict=True)]
    place = checkpoint.yes_label if len(rows) == 2 else 0
    got = rows[place]
    if len(rows) == 2:
        got = [y - n for y, n in zip(rows[place], rows[1 - place], strict=True)]
    alike = _cosine(got, wanted)
    if alike < -0.9:
        return finding_for_code(
            "model", "head", "labels-inverted", f"the head is no - yes (cosine {alike:.3f})"
        )
    if alike < 0.9:
        return Finding(
            "model",
            "head",
            "warning",
            f"the head is not the difference of yes and no (cosine {alike:.3f}): fine-tuned, or "
            "never converted",
        )
    return Finding("model", "head", "ok", f"yes - no in {len(rows)} label(s)")


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    lengths = math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(b * b for b in other))
    return product / lengths if lengths else 0.0
