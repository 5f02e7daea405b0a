"""Small real checkpoints, made from the demo model or from nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qwen3_reranker.convert import convert
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.layout import EMBEDDING, LM_HEAD
from qwen3_reranker.model.safetensors import INDEX, SINGLE


def copy_demo(folder: Path, **config: object) -> Path:
    """Copy the demo model, with some settings of its config.json replaced."""
    shutil.copytree(DEMO_MODEL, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def cache_on_hub(
    cache: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object] = copy_demo
) -> str:
    """
    Put a checkpoint into a Hub cache, and take the Hub itself away; return the checkpoint's name.

    The layout is that of huggingface_hub, so that its own code finds the files offline.
    """
    repository = cache / "models--somebody--their-reranker"
    make(repository / "snapshots" / "0123abcd")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return "somebody/their-reranker"


def convert_demo(folder: Path, labels: int) -> Path:
    """Convert the demo model to a classifier: one label is yes - no, two are [no, yes]."""
    return convert("demo", folder, labels=labels).folder  # type: ignore[arg-type]


def causal(folder: Path, *, dtype: str = "bfloat16", tied: bool = True, shards: int = 1) -> Path:
    """
    Write the demo model as another causal checkpoint.

    Untied, its output matrix is half its embedding, so that scores tell which of the two was read.
    Sharded, the output matrix shares its shard with others.
    """
    copy_demo(folder, tie_word_embeddings=tied, torch_dtype=dtype)
    single = folder / SINGLE
    weights = {name: w.to(getattr(torch, dtype)) for name, w in load_file(single).items()}
    if not tied:
        weights[LM_HEAD] = weights[EMBEDDING] / 2
    return save(folder, weights, shards)


def tiny(folder: Path, *, dtype: str = "bfloat16", tied: bool = True, shards: int = 1) -> Path:
    """Write a causal checkpoint with the demo model's vocabulary and random weights, 16 wide."""
    copy_demo(folder, tie_word_embeddings=tied, torch_dtype=dtype, hidden_size=16)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(getattr(torch, dtype))

    weights = {EMBEDDING: random(12288, 16), "model.norm.weight": random(16)}
    for name in ("q", "k", "v"):
        weights[f"model.layers.0.self_attn.{name}_proj.weight"] = random(256, 16)
    if not tied:
        weights[LM_HEAD] = random(12288, 16)
    return save(folder, weights, shards)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors, as its index places them."""
    found = {}
    for name, file in json.loads((folder / INDEX).read_text())["weight_map"].items():
        with safe_open(folder / file, framework="pt") as shard:
            found[name] = shard.get_tensor(name)
    return found


def save(folder: Path, weights: dict[str, torch.Tensor], shards: int = 1) -> Path:
    """Write weights as one file, or as shards with their index."""
    single = folder / SINGLE
    single.unlink(missing_ok=True)
    if shards == 1:
        save_file(weights, single, {"format": "pt"})
        return folder
    places: dict[str, str] = {}
    for number in range(shards):
        names = sorted(weights)[number::shards]
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file({name: weights[name] for name in names}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index))
    return folder
