"""A launch as a shell and as compose read it, and the templates as engines render them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwen3_reranker import InputError
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.template import (
    PREFIX,
    SUFFIX,
    TEMPLATES,
)
from qwen3_reranker.serve import Server, compose, launch, shell, usage
from qwen3_reranker.serve.engines import ENGINES, EngineName
from qwen3_reranker.serve.options import Device

MODEL = "Qwen/Qwen3-Reranker-0.6B"
TEMPLATE = PREFIX + SUFFIX


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_key_is_read_when_it_is_used(
    monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    monkeypatch.setenv("RERANK_KEY", "sk-very-secret")
    monkeypatch.setenv("VLLM_API_KEY", "sk-very-secret")
    for variable in ("RERANK_KEY", None):
        made = launch("demo", engine=engine, api_key_variable=variable, host="0.0.0.0")
        written = repr(made) + shell(made) + compose(made, image="i") + "".join(usage(made))
        assert "very" not in written
    assert ("no API key" in " ".join(made.notes)) == (engine == "sglang")
    with pytest.raises(InputError, match="NOT_SET is not set"):
        Server(replace(launch("demo", engine=engine, api_key_variable="NOT_SET"), installed=True))


# In the place of an engine's program: notes what it was given.
RECORDER = """#!{python} -I
import json, os, sys
words = sys.argv[1:]
template = words[words.index("--chat-template") + 1] if "--chat-template" in words else None
template = template and [template, open(template, encoding="utf-8").read()]
print(json.dumps({{"words": words, "template": template, "env": dict(os.environ)}}))
"""


def run_script(
    folder: Path, script: str, *arguments: str, name: str = "vllm", **env: str
) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Run a printed script on "another machine": nothing is set there but a PATH and `env`."""
    program = folder / name
    program.write_text(RECORDER.format(python=sys.executable))
    program.chmod(0o755)
    (folder / "serve.sh").write_text(script)
    done = subprocess.run(
        ["sh", str(folder / "serve.sh"), *arguments],
        env={"PATH": f"{folder}:/usr/bin:/bin", "TMPDIR": str(folder), **env},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return done, json.loads(done.stdout) if done.returncode == 0 else None


SHELL = pytest.mark.skipif(shutil.which("sh") is None, reason="a POSIX shell runs the script")


@SHELL
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_shell_runs_the_command_as_it_is_meant(tmp_path: Path, engine: EngineName) -> None:
    hostile = 'it\'s $HOME `id` "!" \\ \n# $(id) ü'
    made = launch(
        f"acme/{hostile}",
        engine=engine,
        version="0.26.0" if engine == "vllm" else "0.5.23",
        kind="causal",
        device="gpu",
        served_name=hostile,
        api_key_variable="RERANK_KEY",
        extra=("--chat-template-kwargs", hostile),
    )
    key = "k'e\"y $x"
    name = "vllm" if engine == "vllm" else "python3"
    done, given = run_script(tmp_path, shell(made), name=name, RERANK_KEY=key)
    assert done.returncode == 0, done.stderr
    path, _ = given["template"]
    (first, *words), flag = ENGINES[engine].portable_program(cpu=False)
    command = made.command(program=((first, *words), flag), template=path)
    asked = [word for group in command for word in group][1:]
    assert given["words"] == (asked if engine == "vllm" else [*asked, f"--api-key={key}"])
    assert given["env"].get("VLLM_API_KEY") == (key if engine == "vllm" else None)

    done, _ = run_script(tmp_path, shell(made), name=name)
    assert done.returncode and "set RERANK_KEY" in done.stderr and not done.stdout


@SHELL
@pytest.mark.parametrize(
    ("engine", "device"),
    [
        ("vllm", "cpu"),
        ("vllm", "gpu"),
        ("vllm-ascend", "gpu"),
        ("sglang", "cpu"),
        ("sglang", "gpu"),
    ],
)
def test_the_script_needs_nothing_of_this_machine(
    tmp_path: Path, engine: EngineName, device: Device
) -> None:
    made = launch(MODEL, engine=engine, device=device, python=sys.executable)
    script = shell(made)
    for path in (sys.prefix, sys.executable, Path.home(), Path.cwd(), TEMPLATES):
        assert str(path) not in script
    assert "OMP_NUM_THREADS" not in script
    name = "vllm" if device == "gpu" and engine != "sglang" else "python3"
    done, given = run_script(tmp_path, script, name=name)
    assert done.returncode == 0, done.stderr
    path, text = given["template"]
    assert made.template is not None
    # Where and under which suffix: SGLang takes any other for JSON.
    assert path.startswith(str(tmp_path)) and path.endswith(".jinja")
    assert text.rstrip("\n") == made.template.read_text("utf-8").rstrip("\n")
    assert given["env"].items() >= made.environment.items()
    # What is set there stays.
    if device == "cpu":
        variable = next(iter(made.environment))
        _, given = run_script(tmp_path, script, name=name, **{variable: "mine"})
        assert given["env"][variable] == "mine"


@SHELL
def test_the_script_takes_the_models_folder_as_an_argument(tmp_path: Path) -> None:
    folder = tmp_path / "it's a {model} $x"
    shutil.copytree(DEMO_MODEL, folder)
    script = shell(launch(folder, version="0.32.0", device="gpu", template="client"))
    for arguments, model in (((), str(folder)), (("/else where",), "/else where")):
        done, given = run_script(tmp_path, script, *arguments)
        assert done.returncode == 0, done.stderr
        assert given["words"][:2] == ["serve", model]
        assert given["template"] is None and "END_OF" not in script


def test_a_compose_file_holds_no_core_count_and_no_path_of_this_machine() -> None:
    for device in ("cpu", "gpu"):
        written = compose(launch(MODEL, version="0.33.0", device=device, python=sys.executable))
        for path in (sys.prefix, Path.cwd()):
            assert str(path) not in written
        assert "OMP_NUM_THREADS" not in written
        # No engine of that version is installed here.
        assert ("vllm-cpu-release-repo:v0.33.0" in written) == (device == "cpu")
        assert ("driver: nvidia" in written) == (device == "gpu")


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Return a parsed file with its variables replaced as compose does, for the forms used here."""
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables[match["name"]]

    pattern = r"\$\$|\$\{(?P<name>[A-Z_]+):[?-](?:[^${}]|\$\{HOME\})*\}"
    assert "$" not in re.sub(pattern, "", value)
    return re.sub(pattern, replaced, value)


@pytest.mark.parametrize("engine", ["vllm", "vllm-ascend", "sglang"])
def test_compose_runs_the_command_as_it_is_meant(engine: EngineName) -> None:
    hostile = 'it\'s $HOME ${X} `id` "!" \\ \n# $$ ü\u2028\x7f'
    made = launch(
        f"acme/{hostile}",
        engine=engine,
        kind="causal",
        device="gpu",
        version="0.5.23" if engine == "sglang" else "0.18.0",
        host="192.0.2.1",
        tensor_parallel=2,
        served_name=hostile,
        api_key_variable="RERANK_KEY",
    )
    variables = {"RERANK_KEY": "k", "HF_HOME": "/cache"}
    content = interpolated(yaml.safe_load(compose(made)), variables)
    service = content["services"]["reranker"]
    words = service["entrypoint"] + service["command"]
    expected = made.command(host="0.0.0.0", template="/etc/qwen3-reranker/template.jinja")
    assert words[: len(made.argv)] == [word for group in expected for word in group]
    assert words[len(made.argv) :] == (["--api-key=k"] if engine == "sglang" else [])
    assert service["environment"].get("VLLM_API_KEY") == (None if engine == "sglang" else "k")
    assert content["configs"]["template"]["content"] == made.template.read_text()  # type: ignore[union-attr]
    assert service["configs"][0]["target"] in words
    assert service["ports"] == [{"target": 8000, "published": "8000", "host_ip": "192.0.2.1"}]
    assert service["volumes"][0]["source"] == "/cache"
    assert (service["ipc"], service["restart"]) == ("host", "unless-stopped")
    compile(service["healthcheck"]["test"][-1], "probe", "exec")
    assert ":8000/health" in service["healthcheck"]["test"][-1]
    if engine == "vllm-ascend":
        assert service["image"] == "quay.io/ascend/vllm-ascend:v0.18.0"
        assert service["devices"][:3] == ["/dev/davinci0", "/dev/davinci1", "/dev/davinci_manager"]
        assert "/usr/local/bin/npu-smi" in [volume["source"] for volume in service["volumes"]]
        assert "-a3 for Atlas A3" in compose(made)
        assert "deploy" not in service
    else:
        [device] = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}
        assert "devices" not in service


@pytest.mark.parametrize(
    ("host", "published"),
    [("localhost", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("gpu-7.lan", None)],
)
def test_compose_publishes_on_addresses_alone(host: str, published: str | None) -> None:
    made = launch(MODEL, host=host, version="0.32.0")
    assert f"--host {host}" in shell(made)
    if published is None:
        with pytest.raises(InputError, match=r"host='gpu-7\.lan' is not an IP address"):
            compose(made)
        return
    [port] = yaml.safe_load(compose(made))["services"]["reranker"]["ports"]
    assert port["host_ip"] == published


def test_a_folder_is_mounted_where_it_lies(tmp_path: Path) -> None:
    repository = tmp_path / "models--acme--$reranker"
    snapshot = repository / "snapshots/abc"
    shutil.copytree(DEMO_MODEL, snapshot)
    made = launch(snapshot, version="0.32.0", device="cpu")
    content = yaml.safe_load(compose(made))
    service = interpolated(content, {})["services"]["reranker"]
    [volume] = service["volumes"]
    assert volume["source"] == volume["target"] == str(repository)
    assert volume["read_only"] is True
    assert str(snapshot) in service["command"]
    assert "deploy" not in service
    assert service["image"].endswith("vllm-cpu-release-repo:v0.32.0")
    with pytest.raises(InputError, match="give image="):
        compose(launch("demo", engine="sglang", device="cpu"))
    assert "image: mine\n" in compose(launch("demo", engine="sglang", device="cpu"), image="mine")


def test_compose_lets_the_gateway_alone_be_reached() -> None:
    made = launch(MODEL, version="0.32.0", host="0.0.0.0", api_key_variable="RERANK_KEY")
    content = yaml.safe_load(compose(made, gateway=True))
    variables = {"RERANK_KEY": "k", "HF_HOME": "/cache"}
    engine, gateway = interpolated(content, variables)["services"].values()
    assert "ports" not in engine and "VLLM_API_KEY" not in engine["environment"]
    assert gateway["ports"] == [{"target": 8000, "published": "8000", "host_ip": "0.0.0.0"}]
    assert gateway["environment"]["QWEN3_RERANKER_API_KEY"] == "k"
    [name] = gateway["depends_on"]
    assert name in content["services"]
    assert gateway["command"][:2] == ["--base-url", f"http://{name}:8000"]
    assert "--allow-no-key" not in gateway["command"]
    [volume] = gateway["volumes"]
    assert (volume["source"], volume["read_only"]) == ("/cache", True)
    assert gateway["environment"]["HF_HOME"] == volume["target"]
    assert ":8000/ready" in gateway["healthcheck"]["test"][-1]
    assert "FROM python" in gateway["build"]["dockerfile_inline"]
    ready = yaml.safe_load(compose(made, gateway=True, gateway_image="acme/gateway"))
    assert ready["services"]["gateway"]["image"] == "acme/gateway"
    assert "build" not in ready["services"]["gateway"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_gateway_for_this_machine_needs_no_key(host: str) -> None:
    text = compose(launch(MODEL, version="0.32.0", host=host), gateway=True)
    gateway = yaml.safe_load(text)["services"]["gateway"]
    assert "--allow-no-key" in gateway["command"]
    assert "QWEN3_RERANKER_API_KEY" not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_gateway_for_other_machines_requires_a_key(host: str) -> None:
    text = compose(launch(MODEL, version="0.32.0", host=host), gateway=True)
    gateway = yaml.safe_load(text)["services"]["gateway"]
    assert "--allow-no-key" not in gateway["command"]
    assert gateway["environment"]["QWEN3_RERANKER_API_KEY"].startswith(
        "${QWEN3_RERANKER_API_KEY:?set QWEN3_RERANKER_API_KEY to the key"
    )
    assert "the gateway requires the one in QWEN3_RERANKER_API_KEY" in text


def test_two_compose_projects_have_different_names() -> None:
    made = launch(MODEL, version="0.32.0")
    texts = compose(made), compose(made, name="b-2")
    assert [yaml.safe_load(text)["name"] for text in texts] == ["qwen3-reranker", "b-2"]


def docker_compose() -> bool:
    docker = shutil.which("docker")
    command = [docker or "", "compose", "version"]
    return docker is not None and not subprocess.run(command, capture_output=True).returncode  # noqa: PLW1510


@pytest.mark.skipif(not docker_compose(), reason="Docker Compose is not installed")
@pytest.mark.parametrize("engine", ["vllm", "vllm-ascend", "sglang"])
@pytest.mark.parametrize("gateway", [False, True])
def test_docker_compose_accepts_the_file(tmp_path: Path, engine: EngineName, gateway: bool) -> None:
    made = launch(
        MODEL, engine=engine, device="gpu", api_key_variable="RERANK_KEY", served_name="$x"
    )
    file = tmp_path / "compose.yaml"
    file.write_text(compose(made, gateway=gateway))
    command = ["docker", "compose", "-f", str(file), "config", "--format", "json"]
    env = {**os.environ, "RERANK_KEY": "k"}
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr
    service = json.loads(run.stdout)["services"]["reranker"]
    assert service["volumes"][0]["source"].endswith("/.cache/huggingface")


def test_no_name_ends_a_comment() -> None:
    made = launch("acme/x\nrm -rf /", version="0.26.0", kind="causal", device="gpu")
    title = "# acme/x rm -rf / (causal) on vllm 0.26.0"
    assert shell(made).splitlines()[1] == compose(made).splitlines()[0] == title


@pytest.mark.parametrize("line", [0, 1])
@pytest.mark.parametrize(("length", "expected"), [(None, None), (8192, None), (4096, 4096)])
def test_the_lines_for_the_frameworks_have_the_length(
    length: int | None, expected: int | None, line: int
) -> None:
    names: dict[str, Any] = {}
    exec(usage(launch(MODEL, version="0.30.0", max_length=length))[line], names)
    assert names["reranker"].max_length == expected
    names["reranker"].close()


@pytest.mark.parametrize("line", [0, 1])
def test_the_lines_for_the_frameworks_work(monkeypatch: pytest.MonkeyPatch, line: int) -> None:
    monkeypatch.setenv("RERANK_KEY", "k")
    for variable in ("RERANK_KEY", None):
        made = launch("demo", host="::", port=8123, api_key_variable=variable)
        names: dict[str, Any] = {}
        exec(usage(made)[line], names)
        assert names["reranker"].base_url == "http://[::1]:8123"
        names["reranker"].close()
