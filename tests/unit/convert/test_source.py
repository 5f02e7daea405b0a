"""What is not converted, each with its reason, and with nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from qwen3_reranker import CheckpointError
from qwen3_reranker.convert import convert
from qwen3_reranker.model.safetensors import INDEX

from support.checkpoints import convert_demo, copy_demo, save, tiny


def refused(source: Path, reason: str) -> None:
    target = source.parent / "target"
    with pytest.raises(CheckpointError, match=reason):
        convert(source, target)
    assert not list(source.parent.glob("target*"))


def configure(source: Path, **settings: Any) -> None:
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "Qwen2ForCausalLM"),
        ({"architectures": ["Qwen3MoeForCausalLM"]}, "Qwen3MoeForCausalLM"),
        ({"architectures": []}, "not a Qwen3 reranker"),
        ({"model_type": "qwen2"}, "model_type='qwen2'"),
        ({"quantization_config": {"quant_method": "awq"}}, r"quantized \(awq\)"),
        ({"hidden_size": 1024}, r"shape \[12288, 16\].* hidden_size=1024"),
        ({"tie_word_embeddings": False}, "holds no lm_head.weight"),
    ],
)
def test_configs(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    source = tiny(tmp_path / "source")
    configure(source, **settings)
    refused(source, reason)


@pytest.mark.parametrize("labels", [1, 2])
def test_what_is_converted_already(tmp_path: Path, labels: int) -> None:
    kind = "one-label" if labels == 1 else "two-label"
    refused(convert_demo(tmp_path / "source", labels), f"is a {kind} classifier already")


def test_an_embedding_model(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source")
    modules = [{"type": "sentence_transformers.models.Pooling"}]
    (source / "modules.json").write_text(json.dumps(modules))
    refused(source, "embedding model")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("model.Q4_K_M.gguf", "GGUF"),
        ("pytorch_model.bin", r"PyTorch \*\.bin"),
        ("nothing.txt", "contains no weights"),
    ],
)
def test_weights_in_another_format(tmp_path: Path, file: str, reason: str) -> None:
    source = copy_demo(tmp_path / "source")
    (source / "model.safetensors").rename(source / file)
    refused(source, reason)


def test_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "model.gguf", "is a GGUF file")


def test_a_folder_named_demo_is_not_the_demo_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "model.gguf").touch()
    assert convert("demo", "converted").labels == 1
    refused(Path("./demo").absolute(), "GGUF")


def test_a_name_that_is_too_long_for_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="is not a folder on this machine"):
        convert("x" * 5000, "target")


def test_an_adapter_checkpoint_is_refused(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source")
    (source / "adapter_config.json").write_text("{}")
    refused(source, "adapter.*merge it")


def quantise(weights: dict[str, torch.Tensor]) -> None:
    head = weights.pop("lm_head.weight")
    weights["lm_head.qweight"] = head.to(torch.int32)
    weights["lm_head.scales"] = head[0].clone()


def as_int8(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.weight"] = weights["lm_head.weight"].to(torch.int8)


def as_fp8(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.weight"] = weights["lm_head.weight"].to(torch.float8_e4m3fn)


def few_rows(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.weight"] = weights["lm_head.weight"][:100].clone()


def not_finite(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.weight"][:, 3] = torch.nan


def with_bias(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.bias"] = torch.zeros(12288)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (quantise, r"lm_head\.qweight.*a quantized head has no rows"),
        (as_int8, "is I8, a quantized head"),
        (as_fp8, "is F8_E4M3, a quantized head"),
        (few_rows, "has only 100 rows"),
        (not_finite, "is not finite"),
        (with_bias, "lm_head.bias"),
    ],
)
def test_heads(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], reason: str
) -> None:
    source = tiny(tmp_path / "source", tied=False)
    weights = load_file(source / "model.safetensors")
    change(weights)
    save(source, weights)
    refused(source, reason)


def test_a_tied_head_with_another_one_beside_it(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", tied=False)
    configure(source, tie_word_embeddings=True)
    refused(source, "Loaders disagree")
    weights = load_file(source / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save(source, weights)
    assert convert(source, tmp_path / "target").labels == 1


def test_a_tokenizer_that_cannot_say_yes(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source")
    path = source / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    words = tokenizer["model"]["vocab"]
    words["yes?"] = words.pop("yes")
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = [m for m in merges if "yes" not in (*m, "".join(m))]
    path.write_text(json.dumps(tokenizer))
    refused(source, "splits 'yes' into")


def test_a_missing_shard(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=3)
    (source / "model-00002-of-00003.safetensors").unlink()
    refused(source, "lacks weight shards.*model-00002-of-00003")


def test_a_shard_without_what_the_index_promises(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=3)
    index = json.loads((source / INDEX).read_text())
    index["weight_map"]["model.lost.weight"] = "model-00001-of-00003.safetensors"
    (source / INDEX).write_text(json.dumps(index))
    refused(source, "names 1 tensors that its shards do not hold.*model.lost.weight")


def test_an_index_beside_a_file_that_it_does_not_name(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=3)
    save(source, {"stale": torch.zeros(1)})
    refused(source, "an index that does not name it")


def test_shards_without_an_index(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=3)
    (source / INDEX).unlink()
    refused(source, "3 safetensors files and no model.safetensors.index.json")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1], "is incomplete"),
        (lambda data: data[:1000], "is incomplete|cut off"),
        (lambda data: data[:4], "cut off"),
        (lambda data: b"", "cut off"),
        (lambda data: data + b"\0", "is incomplete"),
        (lambda data: b"\xff" * len(data), "is not a safetensors file"),
        (lambda data: data[:8] + b"#" + data[9:], "is not a safetensors file"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "LFS pointer"),
    ],
)
def test_damaged_weights(tmp_path: Path, damage: Callable[[bytes], bytes], reason: str) -> None:
    source = tiny(tmp_path / "source")
    path = source / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    refused(source, reason)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", INDEX])
def test_json_that_is_cut_off(tmp_path: Path, file: str) -> None:
    source = tiny(tmp_path / "source", shards=2)
    path = source / file
    path.write_text(path.read_text()[:-20])
    refused(source, "read")


@pytest.mark.parametrize("file", [INDEX, "tokenizer_config.json", "config.json"])
def test_json_that_is_nested_too_deeply(tmp_path: Path, file: str) -> None:
    source = tiny(tmp_path / "source", shards=2)
    (source / file).write_text("[" * 100_000)
    refused(source, f"{file} cannot be read")


def test_a_folder_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(tmp_path / "nowhere", "is not a folder on this machine")


def test_a_user_who_does_not_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="~nobody-has-this-name/model' is not a folder"):
        convert("~nobody-has-this-name/model", tmp_path / "target")


def rename_shard(source: Path, old: str, new: str) -> None:
    """Give a shard another name, in the index too; what it names need not be a plain file."""
    index = json.loads((source / INDEX).read_text())
    places = index["weight_map"]
    index["weight_map"] = {name: new if file == old else file for name, file in places.items()}
    (source / INDEX).write_text(json.dumps(index))
    (source / new).parent.mkdir(exist_ok=True)
    (source / old).rename(source / new)


SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.mark.parametrize("shard", ["../outside.safetensors", "shards/a.safetensors"])
def test_an_index_that_names_files_elsewhere(tmp_path: Path, shard: str) -> None:
    source = tiny(tmp_path / "source", shards=3)
    rename_shard(source, SHARDS[0], shard)
    refused(source, "names the shard .* which is not a file in that folder")


def test_equal_base_names_in_two_folders(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=3)
    for folder, shard in zip("ab", SHARDS, strict=False):
        rename_shard(source, shard, f"{folder}/weights.safetensors")
    refused(source, "names the shard .* which is not a file in that folder")


@pytest.mark.parametrize("shard", ["", ".", "..", "/", "a\\b", 5, None, ["x"]])
def test_an_index_with_names_that_are_none(tmp_path: Path, shard: object) -> None:
    source = tiny(tmp_path / "source", shards=3)
    index = json.loads((source / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = shard
    (source / INDEX).write_text(json.dumps(index))
    refused(source, "names the shard")


@pytest.mark.parametrize("content", [{}, {"weight_map": []}, {"weight_map": None}])
def test_an_index_without_places(tmp_path: Path, content: object) -> None:
    source = tiny(tmp_path / "source", shards=3)
    (source / INDEX).write_text(json.dumps(content))
    refused(source, "has no weight_map")


@pytest.mark.parametrize("shards", [1, 3])
def test_a_shard_named_as_the_converted_head(tmp_path: Path, shards: int) -> None:
    source = tiny(tmp_path / "source", shards=shards)
    if shards == 1:
        (source / "model.safetensors").rename(source / "score.safetensors")
    else:
        rename_shard(source, SHARDS[1], "score.safetensors")
    refused(source, r"a shard named score\.safetensors")


def test_a_shard_named_as_the_converted_single_file(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=3)
    rename_shard(source, SHARDS[0], "model.safetensors")
    rename_shard(source, SHARDS[1], "model-00001-of-00001.safetensors")
    refused(source, r"a shard named model-00001-of-00001\.safetensors")


@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "config.json", "README.md", "LICENSE"]
)
def test_links_out_of_the_folder(tmp_path: Path, file: str) -> None:
    source, secret = tiny(tmp_path / "source"), tmp_path / "secret"
    if (source / file).exists():
        (source / file).rename(secret)
    else:
        secret.write_text("secret")
    (source / file).symlink_to(secret)
    refused(source, f"{file} is a symbolic link out of the folder")


def test_links_within_the_folder(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source")
    (source / "model.safetensors").rename(source / "weights")
    (source / "model.safetensors").symlink_to("weights")
    # The folder itself may be a link.
    (tmp_path / "link").symlink_to(source)
    assert convert(tmp_path / "link", tmp_path / "target").labels == 1
