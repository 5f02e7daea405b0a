"""Quantized weights: their numbers, their files, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from qwen3_reranker import CheckpointError, InputError, MissingDependencyError
from qwen3_reranker.convert import compressed_tensors, convert
from qwen3_reranker.convert.quantize import LARGEST, NumberFormat, from_bytes, quantize_rows
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.safetensors import INDEX, read_header

from support.checkpoints import copy_demo, read_weights, save, tiny

FORMATS = get_args(NumberFormat)
TORCH = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SCALE = "_scale"


def e4m3(values: np.ndarray) -> np.ndarray:
    """Torch's E4M3 of each value, as bits."""
    codes: np.ndarray = torch.from_numpy(values).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    return codes


def to_fp8(values: np.ndarray) -> np.ndarray:
    """This package's E4M3 of each value, as bits."""
    # The scale of a row with a weight of 448 is 1.
    weights, scales = quantize_rows(np.append(values, np.float32(448))[None], "fp8")
    assert scales == 1
    codes: np.ndarray = weights[0, :-1]
    return codes


def test_fp8_of_every_bf16() -> None:
    bits = np.arange(2**16, dtype=np.uint32) << 16
    values = bits.view(np.float32)
    values = values[np.abs(values) <= 448]  # no NaN either
    assert np.array_equal(to_fp8(values), e4m3(values))


def test_fp8_between_two_numbers_of_the_format() -> None:
    codes = np.arange(0x7F, dtype=np.uint8)
    exact = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()
    middles = (exact[:-1] + exact[1:]) / 2
    near = [np.nextafter(middles, np.float32(to)) for to in (-np.inf, np.inf)]
    values = np.concatenate([exact, middles, *near]).astype(np.float32)
    for signed in (values, -values):
        assert np.array_equal(to_fp8(signed), e4m3(signed))
    assert np.array_equal(to_fp8(exact), codes)


@given(st.lists(st.floats(-448, 448, width=32), min_size=1, max_size=50))
def test_fp8_of_any_numbers(values: list[float]) -> None:
    numbers = np.array(values, np.float32)
    assert np.array_equal(to_fp8(numbers), e4m3(numbers))


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=8), min_size=1),
    st.sampled_from(FORMATS),
)
def test_nothing_is_clipped_and_the_error_is_half_a_step(
    values: list[list[float]], number_format: NumberFormat
) -> None:
    rows = np.array(values, np.float32)
    weights, scales = quantize_rows(rows, number_format)
    if number_format == "fp8":
        weights = torch.from_numpy(weights).view(torch.float8_e4m3fn).float().numpy()
    found = weights.astype(np.float64) * scales[:, None]
    # fp8 has 3 bits of fraction, and steps of 2**-9 below 2**-6.
    step = scales[:, None] * np.ones_like(found)
    if number_format == "fp8":
        step = np.maximum(np.abs(rows.astype(np.float64)) / 8, step / 512)
    assert (np.abs(found - rows) <= step / 2 * (1 + 1e-5)).all()
    # The largest number of each row is used, unless the row is as good as zero.
    used = np.abs(rows).max(axis=1) > 1e-30
    assert (np.abs(weights.astype(np.float64)).max(axis=1)[used] == LARGEST[number_format]).all()
    assert np.isfinite(scales).all() and (scales > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_source_is_read_exactly(dtype: str) -> None:
    # The denormal numbers of each dtype, too.
    values = torch.tensor([[1.5, -0.0], [1e-7, -3.14159], [6e4, 1e-40]]).to(DTYPES[dtype])
    data = values.view(torch.uint8).numpy().tobytes()
    assert np.array_equal(from_bytes(data, dtype, 2), values.float().numpy())


@pytest.mark.parametrize(
    ("dtype", "shards", "labels", "number_format"),
    list(product(["bfloat16", "float16", "float32"], [1, 3], [1, 2], FORMATS)),
)
def test_projections_are_quantized_and_nothing_else_changes(
    tmp_path: Path, dtype: str, shards: int, labels: Any, number_format: NumberFormat
) -> None:
    source = tiny(tmp_path / "source", dtype=dtype, tied=False, shards=shards)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    plain = convert(source, tmp_path / "plain", labels=labels, link=False)
    done = convert(source, tmp_path / "target", labels=labels, quantize=number_format)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    old, new = read_weights(plain.folder), read_weights(done.folder)
    for name in [name for name in old if name.endswith("_proj.weight")]:
        weight, scale = old.pop(name).float(), new.pop(name + SCALE)
        expected = weight.abs().amax(1, keepdim=True) / LARGEST[number_format]
        assert torch.equal(scale, expected)
        scaled = (weight / scale).clamp(-LARGEST[number_format], LARGEST[number_format])
        scaled = scaled.round() if number_format == "int8" else scaled
        assert new[name].dtype == TORCH[number_format]
        assert torch.equal(new.pop(name).float(), scaled.to(TORCH[number_format]).float())
    assert new.keys() == old.keys() and "score.weight" in new
    assert all(torch.equal(new[name], old[name]) for name in old)
    # No output matrix is left, and the sizes are those of the files.
    assert set(read_weights(done.folder)) == {
        name for file in done.folder.glob("*.safetensors") for name in load_file(file)
    } - ({"lm_head.weight"} if set(done.linked) else set())
    assert done.quantization == number_format
    sizes = [(done.folder / name).stat().st_size for name in done.quantized]
    assert done.quantized and done.quantized_bytes == sum(sizes)
    config = json.loads((done.folder / "config.json").read_text())
    quantization = config.pop("quantization_config")
    assert config == json.loads((plain.folder / "config.json").read_text())
    assert quantization["ignore"] == ["score"]
    assert Checkpoint.load(str(done.folder)).kind == ("one-label" if labels == 1 else "two-label")
    index = json.loads((done.folder / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(
        tensor.numel() * tensor.element_size() for tensor in read_weights(done.folder).values()
    )


@pytest.mark.parametrize("number_format", FORMATS)
def test_the_config_that_vllm_reads(tmp_path: Path, number_format: NumberFormat) -> None:
    done = convert("demo", tmp_path / "target", quantize=number_format)
    kind = {"int8": "int", "fp8": "float"}[number_format]
    numbers = {"num_bits": 8, "type": kind, "symmetric": True}
    assert json.loads((done.folder / "config.json").read_text())["quantization_config"] == {
        "quant_method": "compressed-tensors",
        "format": f"{kind}-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": numbers | {"strategy": "channel", "dynamic": False},
                "input_activations": numbers | {"strategy": "token", "dynamic": True},
            }
        },
        "ignore": ["score"],
    }


@pytest.mark.parametrize("number_format", FORMATS)
def test_the_size_of_a_block_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number_format: NumberFormat
) -> None:
    whole = convert("demo", tmp_path / "whole", quantize=number_format)
    monkeypatch.setattr(compressed_tensors, "_BLOCK", 1000)  # 3 rows of 256, 1 of 512
    monkeypatch.setattr(compressed_tensors, "_CHUNK", 1001)
    blocks = convert("demo", tmp_path / "blocks", quantize=number_format)
    for name in whole.quantized:
        assert (whole.folder / name).read_bytes() == (blocks.folder / name).read_bytes()


def test_a_shard_without_projections_is_linked(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=5)  # one for each tensor
    done = convert(source, tmp_path / "target", quantize="int8")
    assert len(done.linked) == 2 and len(done.quantized) == 3
    assert all((source / name).samefile(done.folder / name) for name in done.linked)


def not_finite(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.0.self_attn.k_proj.weight"][200, 3] = torch.inf


def as_fp8(weights: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)


def flat(weights: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    weights[name] = weights[name].flatten()


def without_projections(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if "proj" in name]:
        del weights[name]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_finite, r"k_proj\.weight holds weights that are not finite"),
        (as_fp8, r"k_proj\.weight is F8_E4M3 .* can be quantized"),
        (flat, r"k_proj\.weight is BF16 of shape \[4096\]"),
        (without_projections, "nothing to quantize"),
    ],
)
def test_weights_that_cannot_be_quantized(tmp_path: Path, change: Any, reason: str) -> None:
    source = tiny(tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    change(weights)
    save(source, weights)
    with pytest.raises(CheckpointError, match=reason):
        convert(source, tmp_path / "target", quantize="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_is_quantized_already(tmp_path: Path) -> None:
    source = convert("demo", tmp_path / "source", quantize="int8").folder
    path = source / "config.json"
    config = json.loads(path.read_text()) | {"architectures": ["Qwen3ForCausalLM"]}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"is quantized \(compressed-tensors, .*quantize="):
        convert(source, tmp_path / "target", quantize="fp8")


@pytest.mark.parametrize("wrong", ["int4", "", 8, True])
def test_formats_that_do_not_exist(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InputError, match="give 'int8', 'fp8' or None"):
        convert("demo", tmp_path / "target", quantize=wrong)


def test_without_numpy_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingDependencyError, match="pip install 'numpy"):
        convert("demo", tmp_path / "target", quantize="int8")
    assert not list(tmp_path.iterdir())
    assert convert("demo", tmp_path / "plain").quantization is None


@pytest.mark.parametrize("damage", ["weights", "scales"])
def test_weights_that_read_back_differently_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    original = compressed_tensors.write_shard

    def damaged(tensors: Any, target: Path, *arguments: Any) -> None:
        original(tensors, target, *arguments)
        name = "model.layers.2.mlp.up_proj.weight" + (SCALE if damage == "scales" else "")
        tensor = read_header(target)[name]
        with target.open("r+b") as file:
            file.seek(tensor.start)
            byte = file.read(1)[0]
            file.seek(tensor.start)
            file.write(bytes([byte ^ 1]))

    monkeypatch.setattr("qwen3_reranker.convert.transfer.write_shard", damaged)
    with pytest.raises(CheckpointError, match="reads back differently"):
        convert("demo", tmp_path / "target", quantize="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_weights_are_never_in_memory(tmp_path: Path) -> None:
    # Matrices of the 8B model, in a sparse file. Each takes 96 MiB, the shard 288.
    source = copy_demo(tmp_path / "source", hidden_size=4096)
    shapes = {
        "model.embed_tokens.weight": [12288, 4096],
        "model.layers.0.mlp.gate_proj.weight": [12288, 4096],
        "model.layers.0.mlp.down_proj.weight": [4096, 12288],
    }
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (source / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    code = """
import re, sys
from qwen3_reranker.convert import convert
convert(sys.argv[1], sys.argv[2], quantize=sys.argv[3])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
    peaks = {}
    for number_format in FORMATS:
        target = tmp_path / number_format
        command = [sys.executable, "-c", code, str(source), str(target), number_format]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[number_format] = int(done.stdout) // 1024
    assert max(peaks.values()) < 200, peaks  # MiB, the interpreter and numpy included
