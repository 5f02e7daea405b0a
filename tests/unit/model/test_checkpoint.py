"""What may be loaded, and why the rest may not; before any engine starts."""

from __future__ import annotations

import json
import re
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import CheckpointError, InputError, Reranker
from qwen3_reranker.embedded.engine_args import engine_arguments, one_token_more
from qwen3_reranker.embedded.engine_process import can_compile
from qwen3_reranker.model.checkpoint import DEMO_MODEL, Checkpoint

from support.checkpoints import cache_on_hub, convert_demo, copy_demo


def test_the_three_kinds(tmp_path: Path) -> None:
    assert Checkpoint.load("demo").kind == "causal"
    assert Checkpoint.load(str(convert_demo(tmp_path / "one", 1))).kind == "one-label"
    two = Checkpoint.load(str(convert_demo(tmp_path / "two", 2)))
    assert (two.kind, two.yes_label) == ("two-label", 1)


def test_labels_in_another_order_are_read(tmp_path: Path) -> None:
    copy_demo(
        tmp_path / "x",
        architectures=["Qwen3ForSequenceClassification"],
        id2label={"0": "yes", "1": "no"},
    )
    assert Checkpoint.load(str(tmp_path / "x")).yes_label == 0


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "BertForSequenceClassification"),
        ({"architectures": ["Qwen3VLForConditionalGeneration"]}, "Qwen3VL"),
        ({"architectures": []}, "not a Qwen3 reranker"),
        (
            {"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 5},
            "classifies into 5 labels",
        ),
    ],
)
def test_other_models_are_refused_with_the_reason(
    tmp_path: Path, config: dict[str, object], reason: str
) -> None:
    copy_demo(tmp_path / "x", **config)
    with pytest.raises(CheckpointError, match=reason):
        Reranker(str(tmp_path / "x")).score("q", ["d"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "config.json cannot be read"),
        (b"{" * 100_000, "config.json cannot be read"),
        (b"\xff\xfe", "config.json is not UTF-8 text"),
        (b"[]", "config.json is not a JSON object"),
        (b'{"architectures": ["Qwen3ForCausalLM"]}', "max_position_embeddings=None"),
        (
            b'{"architectures": ["Qwen3ForSequenceClassification"], "id2label": ["no", "yes"]}',
            "id2label=",
        ),
        (
            b'{"architectures": ["Qwen3ForSequenceClassification"], "id2label": {"x": "no"}}',
            "id2label=",
        ),
    ],
)
def test_a_damaged_config_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    copy_demo(tmp_path / "x")
    (tmp_path / "x" / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason), Reranker(str(tmp_path / "x")) as reranker:
        reranker.prompt("q", "d")


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    copy_demo(tmp_path / "x")
    path = tmp_path / "x" / "tokenizer.json"
    # The library "tokenizers" accepts this.
    path.write_text('{"", ' + path.read_text("utf-8")[1:], "utf-8")
    with pytest.raises(CheckpointError, match="tokenizer.json cannot be read"):
        Reranker(str(tmp_path / "x")).prompt("q", "d")


def test_an_embedding_model_is_refused(tmp_path: Path) -> None:
    copy_demo(tmp_path / "x")
    modules = [{"type": "sentence_transformers.models.Pooling"}]
    (tmp_path / "x" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="embedding model"):
        Checkpoint.load(str(tmp_path / "x"))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    copy_demo(tmp_path / "x")
    (tmp_path / "x" / file).unlink()
    with pytest.raises(CheckpointError, match=r"no \w+\.json|no weights"):
        Checkpoint.load(str(tmp_path / "x"))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    copy_demo(tmp_path / "x")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (tmp_path / "x" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="model-00001-of-00002"):
        Checkpoint.load(str(tmp_path / "x"))


def test_a_name_that_is_no_folder_and_not_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    not_here = "is not a folder on this machine"
    with pytest.raises(CheckpointError, match=rf"'\./nowhere/at/all' {not_here}"):
        Checkpoint.load("./nowhere/at/all")
    with pytest.raises(CheckpointError, match=f"'nobody/no-such-model' {not_here}"):
        Checkpoint.load("nobody/no-such-model")


@pytest.mark.parametrize("name", ["~nobody-has-this-name/x", "x" * 5000])
def test_a_name_that_cannot_be_a_folder_is_looked_for_on_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reranker = Reranker(name)
    with pytest.raises(CheckpointError, match="is not a folder on this machine"):
        reranker.prompt("q", "d")
    with pytest.raises(InputError, match=r"tokenizer=.* is not a tokenizer\.json"):
        Reranker(base_url="http://localhost:9", tokenizer=name)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    copy_demo(tmp_path / "x")
    (tmp_path / "x" / file).touch()
    read_text = Path.read_text

    def read(path: Path, *args: Any) -> str:
        if path.name == file:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args)

    monkeypatch.setattr(Path, "read_text", read)
    with pytest.raises(CheckpointError, match=rf"{re.escape(file)} cannot be read: .*denied"):
        Reranker(str(tmp_path / "x")).prompt("q", "d")


def test_a_file_that_vanishes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_demo(tmp_path / "x")
    (tmp_path / "x" / "download").symlink_to(tmp_path / "gone")
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "download" or is_file(path))
    with pytest.raises(CheckpointError, match=r"cannot be read: .*No such file.*download"):
        Reranker(str(tmp_path / "x")).prompt("q", "d")


def test_a_hub_name_is_read_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cache_on_hub(tmp_path, monkeypatch)
    checkpoint = Checkpoint.load(name)
    assert (checkpoint.model, checkpoint.kind) == (name, "causal")
    assert checkpoint.tokenizer == Checkpoint.load("demo").tokenizer


def test_max_length_is_never_above_the_models(tmp_path: Path) -> None:
    copy_demo(tmp_path / "x", max_position_embeddings=512)
    checkpoint = Checkpoint.load(str(tmp_path / "x"))
    assert checkpoint.prompts(None).max_length == 512
    assert checkpoint.prompts(300).max_length == 300
    with pytest.raises(CheckpointError, match="max_length=513 is above"):
        checkpoint.prompts(513)
    assert Checkpoint.load("demo").prompts(None).max_length == 8192
    for wrong in (0, -1, True, "512"):
        with pytest.raises(InputError, match="max_length="):
            Reranker("demo", max_length=wrong)  # type: ignore[arg-type]


def test_engine_arguments() -> None:
    checkpoint = Checkpoint.load("demo")
    cpu = engine_arguments(checkpoint, 8192, {}, device_memory=None, can_compile=True)
    assert cpu["model"] == str(DEMO_MODEL)
    assert cpu["hf_overrides"]["classifier_from_token"] == ["no", "yes"]
    assert (cpu["max_model_len"], cpu["block_size"], cpu["enable_prefix_caching"]) == (
        8192,
        32,
        True,
    )
    assert cpu["max_num_batched_tokens"] == 2048
    short = engine_arguments(checkpoint, 512, {}, device_memory=None, can_compile=True)
    assert short["max_num_batched_tokens"] == 2048  # many short prompts a step
    gpu = engine_arguments(checkpoint, 8192, {}, device_memory=80 * 2**30, can_compile=True)
    assert gpu["max_num_batched_tokens"] == 8192
    assert "enforce_eager" not in gpu
    mine = {"block_size": 64, "hf_overrides": {"x": 1}, "kv_cache_memory_bytes": 5}
    args = engine_arguments(checkpoint, 8192, mine, device_memory=None, can_compile=True)
    assert (args["block_size"], args["kv_cache_memory_bytes"]) == (64, 5)
    assert args["hf_overrides"] == {**cpu["hf_overrides"], "x": 1}


@pytest.mark.parametrize("limit", [100, 8192])
def test_a_limit_without_room_for_a_token_more_is_refused(limit: int) -> None:
    checkpoint, user = Checkpoint.load("demo"), {"max_model_len": limit}
    with pytest.raises(InputError, match=f"max_model_len={limit}.*8193.*leave max_model_len out"):
        engine_arguments(checkpoint, 8192, user, device_memory=None, can_compile=True)


def test_an_engine_has_room_for_a_token_more_than_a_prompt() -> None:
    checkpoint = Checkpoint.load("demo")
    for longest, positions in ((512, 8192), (8192, 8193)):
        args = engine_arguments(checkpoint, longest, {}, device_memory=None, can_compile=True)
        more = one_token_more(checkpoint, args, {})
        assert more["max_model_len"] == longest + 1
        assert more["hf_overrides"] == args["hf_overrides"] | {"max_position_embeddings": positions}
    in_one_step = {"enable_chunked_prefill": False}
    for user in ({"max_model_len": 8193}, in_one_step, {"max_model_len": 8192, **in_one_step}):
        args = engine_arguments(checkpoint, 8192, user, device_memory=None, can_compile=True)
        assert one_token_more(checkpoint, args, user) == {}


def test_a_cpu_compiles_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(DEMO_MODEL)})
    monkeypatch.setattr(Path, "is_file", lambda path: path == DEMO_MODEL / "Python.h")
    assert can_compile()
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert not can_compile()
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not can_compile()


@pytest.mark.parametrize("compiler", [True, False])
def test_the_user_decides_about_compiling(compiler: bool) -> None:
    checkpoint = Checkpoint.load("demo")
    cpu: dict[str, Any] = {"device_memory": None, "can_compile": compiler}
    assert engine_arguments(checkpoint, 100, {}, **cpu)["enforce_eager"] is not compiler
    for eager in (True, False):
        mine = {"enforce_eager": eager}
        assert engine_arguments(checkpoint, 100, mine, **cpu)["enforce_eager"] is eager


def test_a_gpu_keeps_room_for_the_users_llm(tmp_path: Path) -> None:
    # The shape of Qwen3-Reranker-0.6B: 596 M parameters, 112 KiB of cache a token in bf16.
    shape = {
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 3072,
        "vocab_size": 151669,
        "tie_word_embeddings": True,
        "max_position_embeddings": 40960,
    }
    checkpoint = Checkpoint.load(str(copy_demo(tmp_path / "x", **shape)))
    args = engine_arguments(checkpoint, 8192, {}, device_memory=80 * 2**30, can_compile=True)
    assert args["kv_cache_memory_bytes"] == 2 * 28 * 8 * 128 * 2 * 3 * 8192
    assert 0.05 < args["gpu_memory_utilization"] < 0.1
    own = engine_arguments(
        checkpoint,
        8192,
        {"gpu_memory_utilization": 0.5},
        device_memory=80 * 2**30,
        can_compile=True,
    )
    assert own["gpu_memory_utilization"] == 0.5 and "kv_cache_memory_bytes" not in own


def test_a_hard_link_leaves_the_state_alone(tmp_path: Path) -> None:
    """Converting a model links its files, also while an engine is loading them."""
    folder = copy_demo(tmp_path / "model")
    before = Checkpoint.load(str(folder)).state()
    (tmp_path / "linked.safetensors").hardlink_to(folder / "model.safetensors")
    assert Checkpoint.load(str(folder)).state() == before
    shutil.copy2(folder / "model.safetensors", tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").replace(folder / "model.safetensors")
    assert Checkpoint.load(str(folder)).state() != before


def test_a_traceback_does_not_show_the_whole_tokenizer() -> None:
    assert len(repr(Checkpoint.load("demo"))) < 5_000
