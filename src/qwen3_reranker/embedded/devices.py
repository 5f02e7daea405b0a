"""
The devices that embedded engines run on: GPUs, or sets of CPU cores.

A GPU is named as in CUDA_VISIBLE_DEVICES: by its index, or by a UUID that begins with "GPU-" or
"MIG-". A set of cores is named "cpu:" followed by a list as in taskset, such as "cpu:0-7,16-23".
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from qwen3_reranker.embedded import protocol
from qwen3_reranker.embedded.engine_args import process_count
from qwen3_reranker.errors import InputError

__all__ = [
    "assign_devices",
    "cores_of",
    "device_environment",
    "on_cpu",
    "split_devices",
]

_CPU = "cpu:"
_GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_EXAMPLES = "give GPUs, such as 0 or 'GPU-8f6a...', or sets of cores, such as 'cpu:0-7'"


def assign_devices(
    devices: Sequence[int | str] | None, engine_args: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """
    Return the devices of each engine.

    The index of a GPU counts the GPUs that CUDA_VISIBLE_DEVICES of this process shows, and is
    replaced by its entry there.

    Args:
        devices: The devices, in order. None uses as many as `data_parallel_size` asks for: the
            first GPUs, or equal shares of the cores if there is no NVIDIA driver.
        engine_args: The arguments of each engine, as `validate_engine_args` returns them. With
            `tensor_parallel_size` or `pipeline_parallel_size`, an engine gets that many consecutive
            devices. Their `data_parallel_size` is the number of engines.

    Returns:
        One tuple per engine. A single empty tuple stands for the default device.

    Raises:
        InputError: A device is unknown or given twice, or the devices are not as many as needed.
    """
    engines = engine_args.get("data_parallel_size")
    if devices is None:
        if engines in (None, 1):
            return [()]
        devices = _default_devices(engines * process_count(engine_args))
    named = _resolve(devices)
    per_engine = process_count(engine_args)
    if len(named) % per_engine:
        raise InputError(
            f"devices={list(devices)!r} cannot be divided among engines of {per_engine} devices, "
            "as engine_args asks for (tensor_parallel_size, pipeline_parallel_size): give a "
            f"multiple of {per_engine} devices"
        )
    assigned = [
        tuple(named[start : start + per_engine]) for start in range(0, len(named), per_engine)
    ]
    if engines not in (None, len(assigned)):
        raise InputError(
            f"devices={list(devices)!r} is enough for {len(assigned)} engines, but engine_args has "
            f"data_parallel_size={engines}: leave one of the two out"
        )
    return assigned


def split_devices(text: str) -> list[int | str]:
    """
    Return the devices in a text that separates them by commas.

    Args:
        text: Such as "0,1" or "cpu:0-3,8,cpu:4-7". Within a set of cores, commas are kept.
    """
    comma = rf",(?={_CPU})" if text.startswith(_CPU) else ","
    parts = [part.strip() for part in re.split(comma, text)]
    return [int(part) if part.isdecimal() else part for part in parts]


def on_cpu(devices: Sequence[str]) -> bool:
    """Return whether the devices of an engine are sets of cores."""
    return any(device.startswith(_CPU) for device in devices)


def cores_of(device: str) -> list[int]:
    """
    Return the cores of a set in the form that `assign_devices` returns, in ascending order.

    Args:
        device: Such as "cpu:0-3,8".
    """
    cores: list[int] = []
    for part in device.removeprefix(_CPU).split(","):
        first, _, last = part.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return cores


def device_environment(devices: Sequence[str]) -> dict[str, str]:
    """
    Return the environment variables that confine an engine process to its devices.

    Args:
        devices: The devices of the engine. Empty for the default, which needs no variables.
    """
    if not devices:
        return {}
    if not on_cpu(devices):
        return {_GPU_VARIABLE: ",".join(devices)}
    cores = (core for device in devices for core in cores_of(device))
    return {protocol.CORES_VARIABLE: ",".join(map(str, cores))}


def _default_devices(count: int) -> Sequence[int | str]:
    """Return the first GPUs, or as many sets of cores if there is no NVIDIA driver."""
    if shutil.which("nvidia-smi"):
        return range(count)
    cores = _available_cores()
    if count > len(cores):
        raise InputError(
            f"engine_args has data_parallel_size for {count} sets of cores, and this process may "
            f"use {len(cores)} cores: ask for fewer engines"
        )
    bounds = [len(cores) * part // count for part in range(count + 1)]
    return [_CPU + ",".join(map(str, cores[start:end])) for start, end in pairwise(bounds)]


def _resolve(devices: Sequence[int | str]) -> list[str]:
    """Return the names of devices, without equivalent forms."""
    if not isinstance(devices, Sequence) or isinstance(devices, str) or not devices:
        raise InputError(f"devices={devices!r}: give a list, such as [0, 1]; or leave it out")
    cpu = [isinstance(device, str) and device.startswith(_CPU) for device in devices]
    if any(cpu) and not all(cpu):
        raise InputError(f"devices={list(devices)!r}: give GPUs or sets of cores, not both")
    named = [_core_set(str(device)) if all(cpu) else _gpu(device) for device in devices]
    units = [str(core) for name in named for core in cores_of(name)] if all(cpu) else named
    if twice := [unit for unit, count in Counter(units).items() if count > 1]:
        what = "core" if all(cpu) else "GPU"
        raise InputError(
            f"devices={list(devices)!r} has {what} {twice[0]} twice: two engines would compete for "
            "it, so give each device once"
        )
    return named


def _gpu(device: object) -> str:
    """Return the name of a GPU for CUDA_VISIBLE_DEVICES."""
    text = device.strip() if isinstance(device, str) else device
    if isinstance(text, str) and text.startswith(("GPU-", "MIG-")):
        return text
    if isinstance(text, bool) or not (isinstance(text, int) or str(text).isdecimal()):
        raise InputError(f"devices has {device!r}: {_EXAMPLES}")
    index = int(str(text))
    visible = os.environ.get(_GPU_VARIABLE)
    entries = None if visible is None else [part.strip() for part in visible.split(",") if part]
    if index < 0 or (entries is not None and index >= len(entries)):
        shown = "" if entries is None else f" ({_GPU_VARIABLE}={visible} shows {len(entries)})"
        raise InputError(f"devices has {device!r}, but indices of GPUs count from 0{shown}")
    return str(index) if entries is None else entries[index]


def _core_set(device: str) -> str:
    """Return the name of a set of cores, with its ranges in ascending order."""
    available = _available_cores()
    cores: set[int] = set()
    for part in device.removeprefix(_CPU).split(","):
        match = _RANGE.fullmatch(part.strip())
        chosen = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not chosen:
            raise InputError(f"devices has {device!r}: {_EXAMPLES}")
        # Before the range is stored, because a typo can make it very long.
        missing = next((core for core in chosen if core not in available), None)
        if missing is not None:
            raise InputError(
                f"devices has {device!r}, but this process may not use core {missing} "
                f"(it may use {_CPU}{_ranges(available)})"
            )
        cores.update(chosen)
    return _CPU + _ranges(sorted(cores))


def _available_cores() -> list[int]:
    """Return the cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        raise InputError("cores can be chosen on Linux only")
    return sorted(os.sched_getaffinity(0))


def _ranges(cores: Sequence[int]) -> str:
    """Return a list of cores such as "0-3,8"."""
    runs = [
        [core for _, core in run]
        for _, run in groupby(enumerate(cores), key=lambda pair: pair[1] - pair[0])
    ]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
