"""Quantized checkpoints in vLLM, against their emulation and against the original."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import CheckpointError, MissingDependencyError, Reranker, ScoreError
from qwen3_reranker.convert import convert, verify

from support.checkpoints import read_weights, save
from support.helpers import EAGER
from support.real_pairs import real_pairs

PAIRS = real_pairs(4)


@pytest.mark.parametrize(("number_format", "labels"), [("int8", 1), ("fp8", 2)])
def test_vllm_computes_what_the_emulation_does(
    tmp_path: Path, number_format: Any, labels: Any
) -> None:
    done = convert("demo", tmp_path / "target", labels=labels, quantize=number_format)
    emulated = verify("demo", done.folder, pairs=PAIRS)
    with Reranker(str(done.folder), engine_args=EAGER) as reranker:
        found = [s for query, documents in PAIRS for s in reranker.score(query, documents)]
    apart = [abs(a - b) for a, b in zip(found, emulated.target, strict=True)]
    changed = [abs(a - b) for a, b in zip(found, emulated.source, strict=True)]
    # Where a last digit rounds another way, later layers round other numbers.
    assert statistics.mean(apart) < statistics.mean(changed) / 5
    # The stated distance.
    assert max(changed) < 0.2 and statistics.mean(changed) < 0.03


def test_a_head_that_vllm_would_misread(tmp_path: Path) -> None:
    folder = convert("demo", tmp_path / "model", engine="vllm", quantize="int8").folder
    right = verify("demo", folder, pairs=PAIRS[:1]).target
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["ignore"] = ["lm_head"]
    path.write_text(json.dumps(config))
    reason = r"does not exempt the head.*score\.weight \(F32\).*--quantize"
    with (
        Reranker(str(folder), engine_args=EAGER) as reranker,
        pytest.raises(CheckpointError, match=reason),
    ):
        reranker.warm_up()
    # vLLM itself starts. Its head is whatever the memory held: mostly zeros, but it may give NaN.
    with Reranker(str(folder), engine_args=EAGER, check=False) as reranker:
        try:
            scores = reranker.score(*PAIRS[0])
        except ScoreError:
            return
    assert max(abs(a - b) for a, b in zip(scores, right, strict=True)) > 0.2


def test_transformers_says_what_it_needs(tmp_path: Path) -> None:
    folder = convert("demo", tmp_path / "model", quantize="int8").folder
    with (
        Reranker(str(folder), engine="transformers") as reranker,
        pytest.raises(MissingDependencyError, match=r"pip install compressed-tensors"),
    ):
        reranker.warm_up()


def test_wrong_scales_show_in_a_verification(tmp_path: Path) -> None:
    folder = convert("demo", tmp_path / "model", quantize="int8").folder
    assert verify("demo", folder).difference < 0.15
    weights = read_weights(folder)
    for name in [name for name in weights if name.endswith("_proj.weight_scale")]:
        weights[name] = weights[name].flip(0).contiguous()
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    save(folder, weights)
    found = verify("demo", folder)
    assert found.difference > 2 * found.tolerance
