"""Whatever is in a model's folder: a model that can be used, or an error that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import Reranker, RerankerError
from qwen3_reranker.convert.source import Source
from qwen3_reranker.doctor.checks_model import check_model
from qwen3_reranker.embedded.engine_args import memory_needs
from qwen3_reranker.model.checkpoint import DEMO_MODEL, Checkpoint
from qwen3_reranker.model.head import misread_head
from qwen3_reranker.model.layout import CAUSAL, CLASSIFIER
from qwen3_reranker.model.safetensors import SINGLE, read_header

from fuzz.mutations import any_json, damaged, damaged_bytes, encoded


def small_tokenizer() -> dict[str, Any]:
    """Return the demo model's tokenizer with three merges, so that damage often hits the rest."""
    data: dict[str, Any] = json.loads((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))
    letters = [token for token in data["model"]["vocab"] if len(token) == 1]
    tokens = [*letters, "ye", "yes", "no"]
    data["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    data["model"]["merges"] = [["y", "e"], ["ye", "s"], ["n", "o"]]
    for number, token in enumerate(data["added_tokens"]):
        token["id"] = len(tokens) + number
    return data


KINDS = (CAUSAL, CLASSIFIER)
FILES = ("config.json", "tokenizer.json", SINGLE)
GOOD: dict[str, Any] = {
    "config.json": json.loads((DEMO_MODEL / "config.json").read_text("utf-8")),
    "tokenizer.json": small_tokenizer(),
    "modules.json": [{"type": "sentence_transformers.models.Transformer"}],
    "model.safetensors.index.json": {"weight_map": {"lm_head.weight": SINGLE}},
}
# What quantized weights add to config.json, as compressed-tensors and ModelOpt write it.
QUANTIZATION: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "quant_algo": "FP8",
    "config_groups": {
        "group_0": {
            "targets": ["Linear", "re:.*proj"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
        }
    },
    "ignore": ["lm_head", "re:.*score"],
    "exclude_modules": ["score*"],
    "bits": 8,
}
# The header of the weights, with their length before it and a few bytes after.
HEADER = {
    "__metadata__": {"format": "pt"},
    "lm_head.weight": {"dtype": "BF16", "shape": [2, 4], "data_offsets": [0, 16]},
    "model.norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]},
}


def weights(header: Any) -> bytes:
    """Return a safetensors file with a header."""
    text = encoded(header)
    return len(text).to_bytes(8, "little") + text + bytes(32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model's folder."""
    yield tmp_path_factory.mktemp("model")


def write(folder: Path, **contents: bytes) -> None:
    """Write the files of a model that can be used, but for those that are given."""
    for path in folder.iterdir():
        path.unlink()
    (folder / "config.json").write_bytes(encoded(GOOD["config.json"]))
    (folder / "tokenizer.json").write_bytes(encoded(GOOD["tokenizer.json"]))
    (folder / SINGLE).write_bytes(weights(HEADER))
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def use(folder: Path) -> None:
    """Do everything for which a model's files are read before its weights are."""
    with Reranker(str(folder)) as reranker:
        prompt = reranker.prompt("query", "document")
        assert prompt.ids
    Source.open(str(folder), None, None)


def use_quantization(folder: Path) -> None:
    """Do everything for which the quantization of a model is read."""
    checkpoint = Checkpoint.load(str(folder))
    misread_head(checkpoint)
    memory_needs(checkpoint, {"max_model_len": 64, "max_num_batched_tokens": 64})
    check_model(str(folder))


def attempt(work: Callable[[], object]) -> None:
    """Do something that may fail with an error of the package only."""
    try:
        work()
    except RerankerError as error:
        assert str(error)


def test_the_undamaged_folder_can_be_used(folder: Path) -> None:
    write(folder)
    with Reranker(str(folder)) as reranker:
        assert reranker.prompt("query", "document").ids


@pytest.mark.parametrize("name", GOOD)
@given(data=st.data())
@pytest.mark.timeout(900)
def test_a_damaged_file(folder: Path, name: str, data: st.DataObject) -> None:
    good = GOOD[name]
    content = data.draw(
        st.one_of(damaged(good).map(encoded), any_json.map(encoded), damaged_bytes(encoded(good)))
    )
    write(folder, **{name: content})
    attempt(lambda: use(folder))


@given(section=st.one_of(damaged(QUANTIZATION), any_json), kind=st.sampled_from(KINDS))
@pytest.mark.timeout(900)
def test_a_damaged_quantization(folder: Path, section: Any, kind: str) -> None:
    config = {**GOOD["config.json"], "architectures": [kind], "quantization_config": section}
    write(folder, **{"config.json": encoded(config)})
    attempt(lambda: use(folder))
    attempt(lambda: use_quantization(folder))


@given(data=st.data())
@pytest.mark.timeout(900)
def test_damaged_weights(folder: Path, data: st.DataObject) -> None:
    content = data.draw(st.one_of(damaged(HEADER).map(weights), damaged_bytes(weights(HEADER))))
    write(folder, **{SINGLE: content})
    attempt(lambda: read_header(folder / SINGLE))
    attempt(lambda: use(folder))


@given(name=st.sampled_from(FILES), target=st.sampled_from(["missing", "folder", "itself"]))
@pytest.mark.timeout(900)
def test_a_file_that_is_none(folder: Path, name: str, target: str) -> None:
    write(folder)
    path = folder / name
    path.unlink()
    if target == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / ("nowhere" if target == "missing" else name))
    try:
        attempt(lambda: use(folder))
    finally:
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):
            path.rmdir()
