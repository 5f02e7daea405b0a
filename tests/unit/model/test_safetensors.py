"""The reader of safetensors files and of their index, against the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_reranker import CheckpointError
from qwen3_reranker.doctor.checks_model import check_model
from qwen3_reranker.model.head import folder_lacks_bias
from qwen3_reranker.model.safetensors import INDEX, decode, read_tensors, read_weight_map

from support.checkpoints import convert_demo, tiny


def test_numbers_are_decoded_exactly() -> None:
    numbers = torch.randn(1000) * torch.logspace(-30, 30, 1000)
    for name, dtype in (("BF16", torch.bfloat16), ("F32", torch.float32)):
        data = numbers.to(dtype)
        raw = data.view(torch.uint8).numpy().tobytes()
        assert decode(raw, name) == data.double().tolist()
    half = torch.randn(1000).half()
    assert decode(half.numpy().tobytes(), "F16") == half.double().tolist()


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("shards", [1, 3])
def test_tensors_are_those_that_the_library_reads(tmp_path: Path, shards: int) -> None:
    folder = tiny(tmp_path / "model", tied=False, shards=shards)
    assert (read_weight_map(folder) is None) == (shards == 1)
    tensors = read_tensors(folder)
    files = folder.glob("*.safetensors")
    expected = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert list(tensor.shape) == list(expected[name].shape)
        rows = (
            [decode(row, tensor.dtype) for row in tensor.rows([0])] if len(tensor.shape) > 1 else []
        )
        assert rows == expected[name][:1].double().tolist()[: len(rows)]


def test_of_two_tensors_of_one_name_the_index_decides(tmp_path: Path) -> None:
    for file, names in {"a": ("x", "y"), "b": ("x", "z"), "c": ("w",)}.items():
        weights = {name: torch.zeros(1) for name in names}
        save_file(weights, tmp_path / f"{file}.safetensors", {"format": "pt"})
    write_index(tmp_path, {"x": "a.safetensors", "z": "b.safetensors"})
    files = {name: tensor.file.stem for name, tensor in read_tensors(tmp_path).items()}
    # A tensor that the index leaves out is loaded all the same; a file that it leaves out is not.
    assert files == {"x": "a", "y": "a", "z": "b"}
    write_index(tmp_path, {"x": "b.safetensors", "y": "a.safetensors"})
    assert read_tensors(tmp_path)["x"].file.stem == "b"


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "..", "", 5])
def test_no_reader_leaves_the_folder(tmp_path: Path, shard: Any) -> None:
    folder = convert_demo(tmp_path / "model", 2)
    write_index(folder, {"score.weight": shard})
    for read in (read_weight_map, read_tensors):
        with pytest.raises(CheckpointError, match="names the shard"):
            read(folder)
    assert folder_lacks_bias(folder) is None
    [finding] = check_model(str(folder))[0]
    assert finding.code == "checkpoint-unusable" and "names the shard" in finding.message


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="contains no safetensors files"):
        read_tensors(tmp_path)
