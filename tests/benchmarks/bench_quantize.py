"""
Measure how far int8 and fp8 move the scores of a checkpoint of the 0.6B model's shape.

    make bench-quantize                      # or: python -m benchmarks.bench_quantize

The weights are random, but shaped like trained ones: rows and columns of different magnitude, and a
few channels that are ten times as strong as the others. The head is made so that the logits have
mean 0 and a standard deviation of 2.5. Both checkpoints run in transformers in fp32, the quantized
one as `qwen3_reranker.convert.verify` emulates it.

A random network tells documents apart by small differences between large vectors, so rounding may
disturb it more than a trained one. That was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from qwen3_reranker.convert import Verification, convert, verify
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.layout import EMBEDDING, LM_HEAD
from qwen3_reranker.model.probability import logit

from benchmarks.work import SHAPES, Work, make_model, make_queries, make_work

SPREAD = 2.5  # the standard deviation of the logits
OUTLIERS = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--shape", choices=SHAPES, default="0.6B")
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--documents", type=int, default=8)
    arguments = parser.parse_args()
    pairs = make_work(make_queries(), 0, arguments.documents, arguments.queries, longest=800)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = make_model(root / "source", arguments.shape)
        make_trained_like(source)
        calibrate(source, pairs)
        print(f"{arguments.shape}-shaped, {arguments.queries * arguments.documents} pairs")
        for number_format in ("int8", "fp8"):
            done = convert(source, root / number_format, quantize=number_format)
            show(number_format, verify(source, done.folder, pairs=pairs))
    print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def make_trained_like(folder: Path) -> None:
    """Give random weights the magnitudes that rows and columns of trained ones have."""
    generator = torch.Generator().manual_seed(0)

    def magnitudes(count: int, sigma: float) -> torch.Tensor:
        return torch.exp(sigma * torch.randn(count, generator=generator))

    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        values = weight.float()
        if "_proj" in name:
            values = values / values.std() * 0.02
            rows, columns = values.shape
            values *= magnitudes(rows, 0.3)[:, None] * magnitudes(columns, 0.3)
        elif "layernorm" in name:
            values = magnitudes(len(values), 0.3)
            strong = torch.rand(len(values), generator=generator) < OUTLIERS
            values[strong] *= 10
        weights[name] = values.to(weight.dtype).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def calibrate(folder: Path, work: Work) -> None:
    """Add an output matrix that gives logits of mean 0 and the wanted spread."""
    prompts = Checkpoint.load(str(folder)).prompts(None)
    model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = torch.stack(
            [
                model(input_ids=torch.tensor([prompt.ids])).last_hidden_state[0, -1]
                for query, texts in work
                for prompt in prompts.encode(query, texts)
            ]
        )
    mean = states.mean(0)
    row = torch.randn(len(mean), generator=torch.Generator().manual_seed(0))
    row -= mean * (row @ mean) / (mean @ mean)
    row *= SPREAD / (states @ row).std()
    weights = load_file(folder / "model.safetensors")
    head = torch.zeros_like(weights[EMBEDDING])
    head[prompts.yes], head[prompts.no] = row / 2, -row / 2
    save_file(weights | {LM_HEAD: head}, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))


def show(name: str, found: Verification) -> None:
    """Print how far scores and logits moved."""
    scores = [abs(a - b) for a, b in zip(found.source, found.target, strict=True)]
    logits = [abs(logit(a) - logit(b)) for a, b in zip(found.source, found.target, strict=True)]
    low, high = min(found.source), max(found.source)
    print(
        f"    {name:<5} scores from {low:.3f} to {high:.3f} moved by {statistics.mean(scores):.4f} "
        f"on average, at most {max(scores):.4f}; logits by {statistics.mean(logits):.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
