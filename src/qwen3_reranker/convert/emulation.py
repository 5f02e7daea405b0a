"""
Emulate in transformers what vLLM computes with a quantized checkpoint.

To load such a checkpoint, transformers needs another package, compressed-tensors, and it does not
round the inputs of quantized layers as vLLM does. So weights are multiplied by their scales here,
and inputs are rounded to the numbers of the format, with one scale per token.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_reranker.convert.quantize import LARGEST
from qwen3_reranker.model.safetensors import read_tensors

if TYPE_CHECKING:
    import torch

__all__ = ["load_quantized"]

_SCALE = "_scale"
_WEIGHT = ".weight"


def load_quantized(folder: str, dtype: str) -> tuple[Any, set[str]]:
    """
    Load a quantized classifier as a transformers model that rounds the inputs of quantized layers.

    Args:
        folder: A folder that `convert` wrote with `quantize=`.
        dtype: The name of the torch dtype to compute in, or "auto" for the checkpoint's own.

    Returns:
        The model, and the names of the weights that the folder lacks.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    if dtype != "auto":
        # Of the model inside the classifier, transformers 5.5 takes the dtype from here.
        config.dtype = getattr(torch, dtype)
    model: Any = AutoModelForSequenceClassification.from_config(config, dtype=config.dtype)
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in read_tensors(Path(folder)).items():
        with safe_open(tensor.file, framework="pt") as file:
            weights[name] = file.get_tensor(name)
    scales = {name: weights.pop(name) for name in list(weights) if name.endswith(_SCALE)}
    for name, scale in scales.items():
        weight = name.removesuffix(_SCALE)
        layer = model.get_submodule(weight.removesuffix(_WEIGHT))
        layer.register_forward_pre_hook(partial(_round_inputs, weights[weight].dtype))
        weights[weight] = weights[weight].float() * scale
    # Not strict, because transformers has no place for the bias, which is zero.
    return model, set(model.load_state_dict(weights, strict=False).missing_keys)


def _round_inputs(
    dtype: torch.dtype, _: torch.nn.Module, inputs: tuple[torch.Tensor]
) -> tuple[torch.Tensor]:
    """Round the inputs of a layer to the numbers of a dtype, with one scale per token."""
    import torch

    (values,) = inputs
    largest = LARGEST["int8" if dtype == torch.int8 else "fp8"]
    peaks = values.float().abs().amax(-1, keepdim=True)
    scales = (peaks / largest).clamp_min(torch.finfo(torch.float32).tiny)
    scaled = values.float() / scales
    rounded = scaled.round() if dtype == torch.int8 else scaled.to(dtype).float()
    return ((rounded * scales).to(values.dtype),)
