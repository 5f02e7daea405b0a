"""Check the kind, the tokenizer and the head of a checkpoint, without loading the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen3_reranker.doctor.findings import Finding, Status, ok, problem, run_all
from qwen3_reranker.errors import CheckpointError, RerankerError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.head import lacks_bias, misread_head
from qwen3_reranker.model.layout import EMBEDDING, SCORE_BIAS, SCORE_WEIGHT
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.quantization import Quantization
from qwen3_reranker.model.safetensors import FLOATS, Tensor, decode, read_tensors

__all__ = ["CHECKS", "Model", "check_model"]

# Cosines of the head with the difference of the rows of yes and no: above the first the head is
# right, below the second it is inverted.
_SAME_DIRECTION, _OPPOSITE_DIRECTION = 0.9, -0.9


@dataclass(frozen=True)
class Model:
    """
    The evidence about a model.

    Attributes:
        checkpoint: Its checkpoint.
        prompts: The builder of its prompts.
        tensors: Its tensors by name; an error if they cannot be read, None if it is not a folder on
            this machine.
    """

    checkpoint: Checkpoint
    prompts: PromptBuilder
    tensors: Mapping[str, Tensor] | Exception | None

    @property
    def labels(self) -> int:
        """The number of labels of its head; 0 for an original checkpoint."""
        return {"causal": 0, "one-label": 1, "two-label": 2}[self.checkpoint.kind]

    @property
    def head(self) -> Tensor | None:
        """The tensor of its head, if it was found, with a row per label and the right width."""
        if not isinstance(self.tensors, Mapping):
            return None
        head = self.tensors.get(SCORE_WEIGHT)
        if head is None or len(head.shape) != 2:
            return None
        rows, width = head.shape
        fits = self.embedding is None or self.embedding.shape[1] == width
        return head if rows == self.labels and fits else None

    @property
    def embedding(self) -> Tensor | None:
        """The tensor of its embedding, if it was found and is a matrix."""
        embedding = self.tensors.get(EMBEDDING) if isinstance(self.tensors, Mapping) else None
        return embedding if embedding is not None and len(embedding.shape) == 2 else None


def check_model(model: str) -> tuple[list[Finding], Checkpoint | None]:
    """
    Check the files of a model.

    Args:
        model: A folder, a Hugging Face name or "demo".

    Returns:
        The findings, in the order of `CHECKS`, and the checkpoint; None if it cannot be used.
    """
    try:
        checkpoint = Checkpoint.load(model)
        prompts = checkpoint.prompts(None)
    except (RerankerError, ValueError, KeyError, OSError, RuntimeError) as error:
        message = str(error) or repr(error)
        return [problem("model", "checkpoint", "checkpoint-unusable", message)], None
    return run_all(CHECKS, Model(checkpoint, prompts, _find_tensors(checkpoint))), checkpoint


def _find_tensors(checkpoint: Checkpoint) -> Mapping[str, Tensor] | Exception | None:
    folder = Path(checkpoint.model)
    if not folder.is_dir():
        return None
    try:
        return read_tensors(folder)
    except (CheckpointError, OSError) as error:
        return error


def _kind(model: Model) -> Finding:
    checkpoint = model.checkpoint
    message = f"{checkpoint.kind}, accepts {checkpoint.limit} tokens: {checkpoint.model}"
    return ok("model", "checkpoint", message)


def _tokenizer(model: Model) -> Finding:
    message = f"present; the id of yes is {model.prompts.yes}, that of no is {model.prompts.no}"
    return ok("environment", "tokenizer", message)


def _weights(model: Model) -> Finding | None:
    """Say why the head of a converted checkpoint cannot be checked."""
    if not model.labels or isinstance(model.tensors, Mapping):
        return None
    if model.tensors is None:
        return Finding("model", "head", "unknown", "the weights are not in a folder here")
    return problem("model", "head", "checkpoint-unusable", str(model.tensors))


def _quantized_head(model: Model) -> Finding | None:
    """Recognize heads that vLLM reads wrongly, because they are quantized or seem to be."""
    quantization = Quantization.of(model.checkpoint.config)
    if quantization is None:
        return None
    check, head = "quantization", "score" if model.labels else "lm_head"
    tensors = model.tensors if isinstance(model.tensors, Mapping) else {}
    stored = sorted(f"{n} ({t.dtype})" for n, t in tensors.items() if _is_quantized_head(t, head))
    if stored:
        # vLLM 0.32 does not start with a quantized output matrix. A quantized classifier's head
        # works on a CPU, but kernels for FP8 and NVFP4 on GPUs need more output channels.
        wrong = quantization.is_float or not model.labels
        message = f"{quantization.name}: the head itself is quantized: {', '.join(stored)}"
        status: Status = "problem" if wrong else "warning"
        return problem("model", check, "quantized-head", message, status=status)
    if reason := misread_head(model.checkpoint):
        return problem("model", check, "quantized-head", reason)
    if not model.labels and quantization.covers("score"):
        message = (
            f"{quantization.name}: vLLM before 0.18 also quantizes the head that it makes of the "
            "rows of yes and no: with FP8 all scores are 0, with NVFP4 it does not start"
        )
        return problem("model", check, "quantized-original", message, status="warning")
    return ok("model", check, quantization.name)


def _is_quantized_head(tensor: Tensor, head: str) -> bool:
    """Return whether a tensor holds quantized weights or a scale of a head."""
    plain = tensor.name in (f"{head}.weight", SCORE_BIAS) and tensor.dtype in FLOATS
    return tensor.name.startswith(f"{head}.") and not plain


def _head_shape(model: Model) -> Finding | None:
    if not model.labels or not isinstance(model.tensors, Mapping) or model.head is not None:
        return None
    tensor = model.tensors.get(SCORE_WEIGHT)
    shape = None if tensor is None else list(tensor.shape)
    message = f"{SCORE_WEIGHT} is {shape}, for {model.labels} label(s)"
    if model.embedding is not None:
        message += f" and an embedding of width {model.embedding.shape[1]}"
    return problem("model", "head", "head-missing", message)


def _head_rows(model: Model) -> Finding | None:
    """Compare a head with the rows of yes and no in the embedding, which tied checkpoints share."""
    head, embedding = model.head, model.embedding
    if head is None:
        return None
    tied = model.checkpoint.config.get("tie_word_embeddings")
    if embedding is None or not tied or not {embedding.dtype, head.dtype} <= FLOATS.keys():
        return ok("model", "head", f"{model.labels} label(s)")
    cosine = _head_direction(model, head, embedding)
    if cosine < _OPPOSITE_DIRECTION:
        message = f"the head is no - yes (cosine {cosine:.3f})"
        return problem("model", "head", "labels-inverted", message)
    if cosine < _SAME_DIRECTION:
        message = (
            f"the head is not the difference of yes and no (cosine {cosine:.3f}): it was "
            "fine-tuned, or never converted"
        )
        return Finding("model", "head", "warning", message)
    return ok("model", "head", f"yes - no in {model.labels} label(s)")


def _head_direction(model: Model, head: Tensor, embedding: Tensor) -> float:
    """Return the cosine of a head with the difference of the rows of yes and no."""
    answers = embedding.rows([model.prompts.yes, model.prompts.no])
    yes, no = (decode(row, embedding.dtype) for row in answers)
    rows = [decode(row, head.dtype) for row in head.rows(range(model.labels))]
    columns = zip(*rows, strict=True)
    return _cosine(
        [model.checkpoint.logit(column) for column in columns],
        [y - n for y, n in zip(yes, no, strict=True)],
    )


def _bias(model: Model) -> Finding | None:
    if model.labels != 2 or model.head is None or not isinstance(model.tensors, Mapping):
        return None
    if not lacks_bias(model.tensors):
        return None
    message = f"two labels and no {SCORE_BIAS}, which vLLM does not need, but SGLang does"
    return problem("model", "head's bias", "random-head-bias", message, status="warning")


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(first, second, strict=True))
    lengths = math.sqrt(sum(a * a for a in first)) * math.sqrt(sum(b * b for b in second))
    return product / lengths if lengths else 0.0


CHECKS: tuple[Callable[[Model], Finding | None], ...] = (
    _kind,
    _tokenizer,
    _weights,
    _quantized_head,
    _head_shape,
    _head_rows,
    _bias,
)
"""The checks of a model, in the order in which they run."""
