"""
Measure the time and peak memory of a conversion, next to `cp` and the usual two-model script.

    python tests/benchmarks/bench_convert.py [--layers 4] [--folder /tmp]

The first checkpoint has the width, vocabulary and untied output matrix of the 8B model, and
`--layers` of its 36 layers (0.39 GB each, plus 2.5 GB for the two matrices). The second has the
shape of the 0.6B model. Both contain random bf16 weights, which repeat one block of random numbers,
and the demo model's tokenizer. Each measured program runs in its own process, and its start counts.
Peak memory is the kernel's VmHWM, which includes the pages of memory-mapped files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from qwen3_reranker.model.checkpoint import DEMO_MODEL

CONVERT = """
import sys
from qwen3_reranker.convert import convert
convert(sys.argv[1], sys.argv[2], link=sys.argv[3] == "link")
"""
QUANTIZE = """
import sys
from qwen3_reranker.convert import convert
convert(sys.argv[1], sys.argv[2], quantize=sys.argv[3])
"""
# Modeled on the scripts in use today: load both classes, copy two rows, save everything.
TWO_MODELS = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
source, target = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source)
causal = AutoModelForCausalLM.from_pretrained(source)
classifier = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
rows = causal.lm_head.weight
with torch.no_grad():
    classifier.score.weight.copy_((rows[yes].float() - rows[no].float())[None])
classifier.config.pad_token_id = tokenizer.pad_token_id
classifier.save_pretrained(target)
tokenizer.save_pretrained(target)
"""
PEAK = """
import re
print("PEAK", re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
SHARD = 2 * 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-convert-", dir=arguments.folder))
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    try:
        large = checkpoint(
            root / "8B", hidden=4096, inner=12288, heads=32, layers=arguments.layers, tied=False
        )
        small = checkpoint(root / "0.6B", hidden=1024, inner=3072, heads=16, layers=28, tied=True)
        for source in (large, small):
            size = sum(path.stat().st_size for path in source.iterdir())
            print(f"\n{source.name}-shaped, {size / 1e9:.2f} GB")
            # Fill the page cache, so that every program reads from it. `measure` syncs the output.
            subprocess.run(
                ["cat", *source.glob("*.safetensors")], stdout=subprocess.DEVNULL, check=True
            )
            target = root / "target"
            measure("convert, linked", CONVERT, source, target, "link")
            measure("convert, copied", CONVERT, source, target, "copy")
            for number_format in ("int8", "fp8"):
                measure(f"convert, {number_format}", QUANTIZE, source, target, number_format)
            copy(source, target)
            if source is small:
                measure("the two-model script", TWO_MODELS, source, target)
    finally:
        shutil.rmtree(root)
    print(f"\nload average after: {os.getloadavg()[0]:.1f}")


def measure(name: str, code: str, source: Path, target: Path, *more: str) -> None:
    command = [sys.executable, "-c", code + PEAK, str(source), str(target), *more]
    started = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    subprocess.run(["sync", "-f", str(target)], check=True)
    seconds = time.monotonic() - started
    peak = int(done.stdout.split("PEAK ")[1])
    print(f"    {name:<22}{seconds:7.1f} s  peak {peak / 1024:7.0f} MiB", flush=True)
    shutil.rmtree(target)


def copy(source: Path, target: Path) -> None:
    started = time.monotonic()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    subprocess.run(["sync", "-f", str(target)], check=True)
    print(f"    {'cp -r, sync':<22}{time.monotonic() - started:7.1f} s", flush=True)
    shutil.rmtree(target)


def checkpoint(
    folder: Path, *, hidden: int, inner: int, heads: int, layers: int, tied: bool
) -> Path:
    """Write a causal checkpoint of this shape, in shards of at most 2 GB."""
    shutil.copytree(DEMO_MODEL, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "num_hidden_layers": layers,
        "vocab_size": 151669,
        "tie_word_embeddings": tied,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (151669, hidden)}
    for layer in range(layers):
        name = f"model.layers.{layer}."
        shapes |= {
            name + "self_attn.q_proj.weight": (heads * 128, hidden),
            name + "self_attn.k_proj.weight": (1024, hidden),
            name + "self_attn.v_proj.weight": (1024, hidden),
            name + "self_attn.o_proj.weight": (hidden, heads * 128),
            name + "self_attn.q_norm.weight": (128,),
            name + "self_attn.k_norm.weight": (128,),
            name + "mlp.gate_proj.weight": (inner, hidden),
            name + "mlp.up_proj.weight": (inner, hidden),
            name + "mlp.down_proj.weight": (hidden, inner),
            name + "input_layernorm.weight": (hidden,),
            name + "post_attention_layernorm.weight": (hidden,),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (151669, hidden)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        if size + 2 * int(np.prod(shape)) > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += 2 * int(np.prod(shape))
    random = np.random.default_rng(0).standard_normal(2**24, dtype=np.float32) * 0.02
    block = (random.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        if len(shards) == 1:
            file = "model.safetensors"
        places |= dict.fromkeys(shard, file)
        write(folder / file, shard, block)
    if len(shards) > 1:
        index = json.dumps({"metadata": {}, "weight_map": places})
        (folder / "model.safetensors.index.json").write_text(index)
    return folder


def write(path: Path, shapes: dict[str, tuple[int, ...]], block: bytes) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for left in range(end, 0, -len(block)):
            file.write(block[:left])


if __name__ == "__main__":
    main()
