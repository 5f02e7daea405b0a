"""
Stands for vLLM in the engine process, without a model: for faults that vLLM has not on demand.

A prompt's logit is that of `logit_of`. Engine arguments that vLLM does not have tell what goes
wrong: `step_seconds`, `step_file` (created when scoring begins), `refuse` (at the start, with these
words, in which `{hf_token}` stands for that argument), `die_at` and `fail_at` (on a prompt that has
this id), `same_logit`, `logit_is_step_size`, `helper` (a process that the engine starts),
`refuse_in` (a folder: the start fails if there is a file that is named after the device),
`environments` (a file to which the engine adds its variables and cores), `arguments` (a file to
which it writes its arguments).

The environment variable FAKE_VLLM_DEVICE makes it a build for another device than the CPU. An
import takes FAKE_VLLM_IMPORT_SECONDS, and first creates a file in FAKE_VLLM_IMPORT_FOLDER.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__version__ = os.environ.get("FAKE_VLLM_VERSION", "0.32.0")
if __name__ == "vllm":  # in the engine process
    for _name in ("engine.arg_utils", "inputs", "platforms", "v1.engine.llm_engine"):
        sys.modules[f"vllm.{_name}"] = sys.modules[__name__]
    if _words := os.environ.get("FAKE_VLLM_IMPORT_ERROR"):
        raise ImportError(_words)
    if _folder := os.environ.get("FAKE_VLLM_IMPORT_FOLDER"):
        Path(_folder, str(os.getpid())).touch()
    time.sleep(float(os.environ.get("FAKE_VLLM_IMPORT_SECONDS", "0")))
    print("words on standard output")


def logit_of(ids: Sequence[int]) -> float:
    """Return the logit of a prompt; it tells almost every prompt from all others."""
    return sum((place + 1) * number for place, number in enumerate(ids)) % 10_007 / 1_000 - 5


class current_platform:  # noqa: N801
    device_type = os.environ.get("FAKE_VLLM_DEVICE", "cpu")

    @classmethod
    def is_cpu(cls) -> bool:
        return cls.device_type == "cpu"

    @staticmethod
    def get_device_total_memory() -> int:
        return 80 * 2**30


class EngineArgs:
    def __init__(self, **args: Any) -> None:
        self.args = args


class PoolingParams:
    def __init__(self, **params: Any) -> None:
        assert params == {"task": "classify", "use_activation": False}


def tokens_input(ids: list[int]) -> list[int]:
    return ids


class LLMEngine:
    def __init__(self, args: dict[str, Any]) -> None:
        if "refuse" in args:
            raise RuntimeError(args["refuse"].format_map(args))
        if "refuse_in" in args:
            name = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            if Path(args["refuse_in"], name).exists():
                raise RuntimeError(f"GPU {name} has fallen off the bus")
        if "environments" in args:
            seen = {**os.environ, "cores": sorted(os.sched_getaffinity(0))}
            with Path(args["environments"]).open("a") as file:
                file.write(json.dumps(seen) + "\n")
        if "arguments" in args:
            Path(args["arguments"]).write_text(json.dumps(args))
        if "helper" in args:
            subprocess.Popen(["sleep", "600"])
        self.args = args
        self.requests: dict[str, list[int]] = {}
        config = types.SimpleNamespace(max_model_len=args["max_model_len"], dtype="torch.float32")
        self.vllm_config = types.SimpleNamespace(model_config=config)

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> LLMEngine:
        return cls(args.args)

    def has_unfinished_requests(self) -> bool:
        return bool(self.requests)

    def get_num_unfinished_requests(self) -> int:
        return len(self.requests)

    def reset_prefix_cache(self) -> None:
        pass

    def add_request(
        self,
        name: str,
        ids: list[int],
        params: PoolingParams,
        *,
        trace_headers: dict[str, str] | None = None,
    ) -> None:
        if "otlp_traces_endpoint" in self.args:
            with Path(self.args["otlp_traces_endpoint"]).open("a") as file:
                file.write(f"{trace_headers}\n")
        if len(ids) >= self.args["max_model_len"]:
            raise ValueError(f"a prompt of {len(ids)} tokens is too long")
        self.requests[name] = ids

    def abort_request(self, names: list[str]) -> None:
        for name in names:
            self.requests.pop(name, None)

    def step(self) -> list[Any]:
        if "step_file" in self.args:
            pathlib.Path(self.args["step_file"]).touch()
        time.sleep(self.args.get("step_seconds", 0))
        names = list(self.requests)[:64]
        if "logit_is_step_size" in self.args:
            self.args["same_logit"] = len(names)
        return [self._output(name, self.requests.pop(name)) for name in names]

    def _output(self, name: str, ids: list[int]) -> Any:
        if self.args.get("die_at") in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        error = "planted" if self.args.get("fail_at") in ids else None
        logit = self.args.get("same_logit", logit_of(ids))
        data = types.SimpleNamespace(flatten=lambda: types.SimpleNamespace(tolist=lambda: [logit]))
        outputs = types.SimpleNamespace(data=data)
        return types.SimpleNamespace(request_id=name, finished=True, outputs=outputs, error=error)
