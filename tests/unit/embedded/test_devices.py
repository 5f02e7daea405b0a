"""Which devices an engine gets, and how they are written."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EngineStats, InputError, Reranker, Stats
from qwen3_reranker.embedded.devices import assign_devices, cores_of, split_devices
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

CORES = 64


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Show a machine of 64 cores without GPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def add_nvidia_smi(folder: Path) -> None:
    program = folder / "nvidia-smi"
    program.touch()
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("devices", "args", "assigned"),
    [
        (None, {}, [()]),
        (None, {"data_parallel_size": 1}, [()]),
        ([0, 1, 2], {}, [("0",), ("1",), ("2",)]),
        (range(2), {"data_parallel_size": 2}, [("0",), ("1",)]),
        (["3", "GPU-8f6a", "MIG-01"], {}, [("3",), ("GPU-8f6a",), ("MIG-01",)]),
        ([0, 1, 2, 3], {"tensor_parallel_size": 2}, [("0", "1"), ("2", "3")]),
        (
            [3, 2, 1, 0],
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
            [("3", "2", "1", "0")],
        ),
        (["cpu: 3,1,2, 2", "cpu:0,8-9"], {}, [("cpu:1-3",), ("cpu:0,8-9",)]),
    ],
)
def test_assigned_devices(
    devices: Any, args: dict[str, int], assigned: list[tuple[str, ...]]
) -> None:
    assert assign_devices(devices, args) == assigned


def test_indices_count_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-8f6a,6")
    assert assign_devices([2, "1"], {}) == [("6",), ("GPU-8f6a",)]
    with pytest.raises(InputError, match=r"has 3, but.*from 0.*=4, GPU-8f6a,6 shows 3\)"):
        assign_devices([3], {})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="shows 0"):
        assign_devices([0], {})


def test_data_parallel_size_stands_for_the_first_gpus(tmp_path: Path) -> None:
    add_nvidia_smi(tmp_path)
    assert assign_devices(None, {"data_parallel_size": 2}) == assign_devices([0, 1], {})
    args = {"data_parallel_size": 2, "tensor_parallel_size": 2}
    assert assign_devices(None, args) == [("0", "1"), ("2", "3")]


@given(st.integers(2, CORES))
def test_data_parallel_size_divides_the_cores(engines: int) -> None:
    assigned = assign_devices(None, {"data_parallel_size": engines})
    sets = [cores_of(device) for (device,) in assigned]
    assert [core for cores in sets for core in cores] == list(range(CORES))
    assert len(sets) == engines
    assert max(map(len, sets)) - min(map(len, sets)) <= 1


@given(st.sets(st.integers(0, CORES - 1), min_size=1))
def test_a_set_of_cores_has_one_name(cores: set[int]) -> None:
    written = "cpu:" + ",".join(map(str, cores))
    [(name,)] = assign_devices([written], {})
    assert cores_of(name) == sorted(cores)
    assert assign_devices([name], {}) == [(name,)]
    assert split_devices(f"{name},{name}") == [name, name]


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("0,1", [0, 1]),
        ("GPU-8f6a, 1", ["GPU-8f6a", 1]),
        ("cpu:0-3,8,cpu:4-7", ["cpu:0-3,8", "cpu:4-7"]),
        ("", [""]),
    ],
)
def test_devices_in_a_text(text: str, devices: list[int | str]) -> None:
    assert split_devices(text) == devices


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"devices": []}, r"devices=\[\]: give a list, such as \[0, 1\]"),
        ({"devices": "0,1"}, "devices='0,1': give a list"),
        ({"devices": 2}, "devices=2: give a list"),
        ({"devices": [True]}, "devices has True: give GPUs, such as 0"),
        ({"devices": [1.0]}, r"devices has 1\.0: give GPUs"),
        ({"devices": ["cuda:0"]}, "devices has 'cuda:0': give GPUs"),
        ({"devices": [-1]}, "devices has -1, but indices of GPUs count from 0"),
        ({"devices": [0, 1, "0"]}, "has GPU 0 twice"),
        ({"devices": [0, "cpu:0"]}, "give GPUs or sets of cores, not both"),
        ({"devices": ["cpu:"]}, "devices has 'cpu:': give GPUs"),
        ({"devices": ["cpu:3-1"]}, "devices has 'cpu:3-1'"),
        ({"devices": ["cpu:0-3", "cpu:3"]}, "has core 3 twice"),
        ({"devices": ["cpu:60-70"]}, r"may not use core 64 \(it may use cpu:0-63\)"),
        (
            {"devices": [0, 1, 2], "engine_args": {"tensor_parallel_size": 2}},
            r"devices=\[0, 1, 2\] cannot be divided among engines of 2 devices",
        ),
        (
            {"devices": [0, 1], "engine_args": {"data_parallel_size": 3}},
            r"enough for 2 engines, but engine_args has data_parallel_size=3",
        ),
        ({"devices": ["cpu:60-9999999999"]}, r"may not use core 64 \(it may use cpu:0-63\)"),
        ({"engine_args": {"data_parallel_size": 0}}, "data_parallel_size=0: give a whole number"),
        ({"engine_args": {"data_parallel_size": "2"}}, "data_parallel_size='2'"),
        ({"engine_args": {"data_parallel_size": 65}}, "65 sets of cores.*may use 64 cores"),
        ({"engine": "transformers", "devices": [0]}, "devices= is for vLLM"),
        ({"base_url": "http://x", "devices": [0]}, "only an embedded engine can use devices="),
    ],
)
def test_devices_that_cannot_be_used(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Reranker("demo", **settings)


def test_a_cache_and_passages_show_the_engines_behind_them() -> None:
    with Reranker("demo", devices=[1, 0], cache={}, long_documents="passages") as reranker:
        assert reranker.stats() == Stats(engines={"1": EngineStats(), "0": EngineStats()})


@pytest.mark.parametrize("adapter_class", [LangChainRerank, LlamaIndexRerank])
def test_adapters_hand_devices_on_and_keep_them(adapter_class: Any) -> None:
    with adapter_class(model="demo", devices=[1, "GPU-8f6a"]) as adapter:
        dump = json.loads(adapter.model_dump_json())
        kept = {name: dump[name] for name in ("model", "devices")}
        copies = [copy.copy(adapter), pickle.loads(pickle.dumps(adapter)), adapter_class(**kept)]
        for twin in (adapter, *copies):
            assert list(twin.stats().engines) == ["1", "GPU-8f6a"]
            assert twin.devices == [1, "GPU-8f6a"]
            twin.close()
    with pytest.raises(ValueError, match="has GPU 0 twice"):
        adapter_class(model="demo", devices=[0, 0])
    with pytest.raises(ValueError, match="devices"):
        adapter_class(model="demo", devices=[True])
