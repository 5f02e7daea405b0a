"""What a conversion writes, reads and leaves alone, on small random checkpoints."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_reranker import CheckpointError, InputError
from qwen3_reranker.convert import convert
from qwen3_reranker.model.checkpoint import DEMO_MODEL, Checkpoint
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.safetensors import INDEX
from qwen3_reranker.model.template import TEMPLATES

from support.checkpoints import cache_on_hub, copy_demo, read_weights, save, tiny

PROMPTS = PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))


def everything(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for file in folder.glob("*.safetensors") for n, t in load_file(file).items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("dtype", "tied", "shards", "labels"),
    list(product(["bfloat16", "float16", "float32"], [True, False], [1, 3], [1, 2])),
)
def test_the_head_is_the_two_rows_and_nothing_else_changes(
    tmp_path: Path, dtype: str, tied: bool, shards: int, labels: int
) -> None:
    source = tiny(tmp_path / "source", dtype=dtype, tied=tied, shards=shards)
    before = contents(source)
    done = convert(source, tmp_path / "target", labels=labels)  # type: ignore[arg-type]
    assert contents(source) == before
    old, new = everything(source), read_weights(done.folder)
    rows = old["model.embed_tokens.weight" if tied else "lm_head.weight"]
    no, yes = rows[PROMPTS.no], rows[PROMPTS.yes]
    score, bias = new.pop("score.weight"), new.pop("score.bias")
    if labels == 2:
        assert torch.equal(score, torch.stack([no, yes]))
        assert done.dtype == dtype
    else:
        assert torch.equal(score, (yes.float() - no.float())[None])
        assert done.dtype == "float32"
    assert torch.equal(bias, torch.zeros(labels, dtype=score.dtype))
    old.pop("lm_head.weight", None)
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert (done.yes, done.no, done.labels) == (PROMPTS.yes, PROMPTS.no, labels)
    checkpoint = Checkpoint.load(str(done.folder))
    assert checkpoint.kind == ("one-label" if labels == 1 else "two-label")
    assert labels == 1 or checkpoint.yes_label == 1


@pytest.mark.parametrize(
    ("engine", "bias"), [("sglang", True), ("vllm", False), ("transformers", False), (None, True)]
)
def test_the_bias_is_written_for_engines_that_apply_it(
    tmp_path: Path, engine: Any, bias: bool
) -> None:
    done = convert(tiny(tmp_path / "source"), tmp_path / "target", engine=engine)
    assert ("score.bias" in read_weights(done.folder)) is done.bias is bias


@pytest.mark.parametrize(
    ("engine", "labels"), [("sglang", 2), ("vllm", 1), ("transformers", 1), (None, 1)]
)
def test_the_labels_are_those_that_the_engine_needs(
    tmp_path: Path, engine: Any, labels: int
) -> None:
    assert convert(tiny(tmp_path / "source"), tmp_path / "target", engine=engine).labels == labels


def test_one_label_is_refused_for_sglang(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels=1 is not for SGLang"):
        convert("demo", tmp_path / "target", labels=1, engine="sglang")
    assert not list(tmp_path.iterdir())


def test_the_config(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", tied=False)
    path = source / "config.json"
    old = json.loads(path.read_text())
    # What others add to a causal reranker, and what would be applied to its head twice.
    extra = {
        "classifier_from_token": ["no", "yes"],
        "is_original_qwen3_reranker": True,
        "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
    }
    path.write_text(json.dumps(old | extra))
    new = json.loads((convert(source, tmp_path / "two", labels=2).folder / path.name).read_text())
    changed = {
        "architectures": ["Qwen3ForSequenceClassification"],
        "num_labels": 2,
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"no": 0, "yes": 1},
        "pad_token_id": 12262,  # <|endoftext|>
    }
    assert new == old | changed
    one = json.loads((convert(source, tmp_path / "one").folder / path.name).read_text())
    assert (one["num_labels"], one["id2label"]) == (1, {"0": "LABEL_0"})


def test_the_dtype_is_written_where_the_config_has_none(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", dtype="float16")
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"torch_dtype": None}))
    new = json.loads((convert(source, tmp_path / "target").folder / path.name).read_text())
    assert new["torch_dtype"] == "float16"


def test_what_says_how_the_causal_model_is_used_stays_behind(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    template = {"chat_template": "{{ messages }}"}
    (source / "tokenizer_config.json").write_text(json.dumps(settings | template))
    for name in ("modules.json", "chat_template.jinja", "model.gguf", ".gitattributes"):
        (source / name).write_text("[]")
    (source / "LICENSE").write_text("free")
    (source / "1_LogitScore").mkdir()
    done = convert(source, tmp_path / "target")
    assert set(contents(done.folder)) == {
        *("LICENSE", "README.md", "config.json", "model-00001-of-00001.safetensors", INDEX),
        *("score.safetensors", "tokenizer.json", "tokenizer_config.json"),
    }
    assert json.loads((done.folder / "tokenizer_config.json").read_text()) == settings
    tokenizer = "tokenizer.json"
    assert (done.folder / tokenizer).read_bytes() == (source / tokenizer).read_bytes()


@pytest.mark.parametrize("engine", [None, "vllm", "sglang", "transformers"])
def test_only_sentence_transformers_gets_a_chat_template(tmp_path: Path, engine: Any) -> None:
    source = tiny(tmp_path / "source")
    (source / "chat_template.jinja").write_text("{{ messages }}")
    done = convert(source, tmp_path / "target", engine=engine)
    written = contents(done.folder).get("chat_template.jinja")
    expected = (TEMPLATES / "vllm_score.jinja").read_bytes()
    assert written == (expected if engine == "transformers" else None)


def test_weights_are_linked_and_small_files_are_not(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", shards=3)
    done = convert(source, tmp_path / "target")
    shards = {path.name for path in source.glob("*.safetensors")}
    assert set(done.linked) == shards and done.linked_bytes > 0
    assert all((source / name).samefile(done.folder / name) for name in shards)
    assert set(done.copied) == {"README.md", "tokenizer.json", "tokenizer_config.json"}
    assert not (source / "tokenizer.json").samefile(done.folder / "tokenizer.json")


def test_a_hub_snapshots_symbolic_links_are_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--somebody--their-reranker"
    repository.mkdir()
    blobs, snapshot = tiny(repository / "blobs"), repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    done = convert(snapshot, tmp_path / "target")
    [linked] = done.linked
    assert not (done.folder / linked).is_symlink()
    assert (done.folder / linked).samefile(blobs / "model.safetensors")


def test_a_hub_name_is_taken_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cache_on_hub(tmp_path, monkeypatch, tiny)
    assert "score.weight" in read_weights(convert(name, tmp_path / "t").folder)


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_where_nothing_can_be_linked_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("os.link", refuse)
    source = tiny(tmp_path / "source", tied=False, shards=3)
    done = convert(source, tmp_path / "target")
    assert not done.linked
    for path in source.glob("*.safetensors"):
        assert path.read_bytes() == (done.folder / path.name).read_bytes()
        assert not path.samefile(done.folder / path.name)


def test_links_can_be_declined(tmp_path: Path) -> None:
    done = convert(tiny(tmp_path / "source"), tmp_path / "target", link=False)
    assert not done.linked and "model-00001-of-00001.safetensors" in done.copied


def test_a_shard_of_the_output_matrix_alone_is_dropped(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", tied=False, shards=2)
    weights = everything(source)
    head = {"lm_head.weight": weights.pop("lm_head.weight")}
    save_file(weights, source / "model-00001-of-00002.safetensors", {"format": "pt"})
    save_file(head, source / "model-00002-of-00002.safetensors", {"format": "pt"})
    places = dict.fromkeys(weights, "model-00001-of-00002.safetensors")
    places["lm_head.weight"] = "model-00002-of-00002.safetensors"
    (source / INDEX).write_text(json.dumps({"weight_map": places}))
    done = convert(source, tmp_path / "target")
    assert done.linked == ("model-00001-of-00002.safetensors",)
    assert not (done.folder / "model-00002-of-00002.safetensors").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "folder":
        target.mkdir()
        (target / "mine").write_text("mine")
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nothing is overwritten"):
        convert("demo", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]
    assert kind != "folder" or (target / "mine").read_text() == "mine"


def test_a_folder_that_cannot_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file: give another"):
        convert("demo", tmp_path / "file" / "target")
    # Those who run the tests as root may write everywhere.
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)
        with pytest.raises(InputError, match="is not writable"):
            # Before the hub is asked for anything.
            convert("somebody/their-reranker", tmp_path / "a" / "target")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be created .*Permission denied"):
        convert("demo", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_empty_folder_and_one_below_folders_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "score.weight" in read_weights(convert("demo", tmp_path / "empty").folder)
    assert "score.weight" in read_weights(convert("demo", tmp_path / "a" / "b").folder)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == (tmp_path / "a").stat().st_mode & 0o777


@pytest.mark.parametrize("target", [".", "", "{cwd}", "../{name}"])
def test_the_current_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"cannot be replaced.*: give a new folder below it"):
        convert("demo", target.format(cwd=tmp_path, name=tmp_path.name))
    assert not list(tmp_path.iterdir())


def test_a_mount_point_is_refused_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as an empty volume of a container. What is beside it is on another file system."""
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "volume")
    with pytest.raises(InputError, match=r"cannot be replaced.*: give a new folder below it"):
        convert("somebody/their-reranker", tmp_path / "volume")
    assert "score.weight" in read_weights(convert("demo", tmp_path / "volume" / "new").folder)


@pytest.mark.parametrize(
    "wrong", [{"labels": 3}, {"labels": True}, {"labels": "1"}, {"engine": "tei"}]
)
def test_arguments_that_cannot_be_used(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        convert("demo", tmp_path / "target", **wrong)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
def test_what_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    source = tiny(tmp_path / "source", shards=3)

    def fail(path: Path, target: Path, advance: object) -> None:
        target.write_bytes(path.read_bytes()[:100])
        raise error

    monkeypatch.setattr("qwen3_reranker.convert.files.copy", fail)
    with pytest.raises(type(error)):
        convert(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_killed_conversion_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    tiny(tmp_path / "source", shards=3)
    code = """
import os, signal, sys
from qwen3_reranker.convert import convert, files
write = files.write
def dying(target, text):
    if target.name == "config.json":
        os.kill(os.getpid(), signal.SIGKILL)
    write(target, text)
files.write = dying
convert(sys.argv[1], sys.argv[2])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "source"), str(tmp_path / "target")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "target").exists()
    [left] = tmp_path.glob("target.partial-*")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Checkpoint.load(str(left))
    assert "score.weight" in read_weights(convert(tmp_path / "source", tmp_path / "target").folder)


def test_a_head_that_reads_back_differently_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen3_reranker.model import safetensors as format_

    def damaged(path: Path, head: dict[str, Any]) -> None:
        dtype, shape, data = head["score.weight"]
        format_.write_tensors(path, head | {"score.weight": (dtype, shape, data[:-1] + b"\x7f")})

    module = importlib.import_module("qwen3_reranker.convert.conversion")
    monkeypatch.setattr(module, "write_tensors", damaged)
    with pytest.raises(CheckpointError, match="reads back differently"):
        convert("demo", tmp_path / "target")
    assert not list(tmp_path.iterdir())


def test_the_weights_are_never_in_memory(tmp_path: Path) -> None:
    # As wide as the 8B, and sparse: 9 GiB that take no room on the disk.
    source = copy_demo(tmp_path / "source", hidden_size=4096)
    save(source, {"x": torch.zeros(1)})
    shape = [151669, 4096]
    size = shape[0] * shape[1] * 2
    entry = {"dtype": "BF16", "shape": shape, "data_offsets": [0, size]}
    other = {"dtype": "BF16", "shape": [4 * 2**30], "data_offsets": [size, size + 8 * 2**30]}
    header = json.dumps({"model.embed_tokens.weight": entry, "model.x": other}).encode()
    with (source / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size + 8 * 2**30)
    code = """
import re, sys
from qwen3_reranker.convert import convert
convert(sys.argv[1], sys.argv[2])
# Unlike getrusage's, this peak is not that of the process it was forked from.
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "target")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak < 200 * 1024  # KiB, the interpreter and the tokenizer included
