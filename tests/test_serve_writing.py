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
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qwen3_reranker import (
    InputError,
)
from qwen3_reranker.checkpoint import DEMO_MODEL
from qwen3_reranker.deploy.launch import TEMPLATES
from qwen3_reranker.deploy.serve import Server, compose, launch, shell, usage
from qwen3_reranker.deploy.versions import EngineName
from qwen3_reranker.deploy.yaml_text import dump
from qwen3_reranker.prompt import CONTROL_TOKENS, DEFAULT_INSTRUCTION, PREFIX, SUFFIX, TextWriter

MODEL = "Qwen/Qwen3-Reranker-0.6B"
TEMPLATE = PREFIX + SUFFIX


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.delenv("SGLANG_API_KEY", raising=False)


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


@pytest.mark.skipif(shutil.which("sh") is None, reason="a POSIX shell runs the command")
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_shell_runs_the_command_as_it_is_meant(tmp_path: Path, engine: EngineName) -> None:
    script = tmp_path / ("vllm" if engine == "vllm" else "python3")
    script.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ.get('VLLM_API_KEY')]))\n"
    )
    script.chmod(0o755)
    hostile = 'it\'s $HOME `id` "!" \\ \n# $(id) ü'
    made = launch(
        f"acme/{hostile}",
        engine=engine,
        version="0.26.0" if engine == "vllm" else "0.5.23",
        kind="causal",
        cpu=False,
        served_name=hostile,
        api_key_variable="RERANK_KEY",
        extra=("--chat-template-kwargs", hostile),
    )
    key = "k'e\"y $x"
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RERANK_KEY": key}
    run = subprocess.run(
        ["sh", "-c", shell(made)], env=env, capture_output=True, text=True, check=True
    )
    words, given_key = json.loads(run.stdout)
    asked = made.argv[1:]
    assert words == (asked if engine == "vllm" else [*asked, f"--api-key={key}"])
    assert given_key == (key if engine == "vllm" else None)

    del env["RERANK_KEY"]
    run = subprocess.run(
        ["sh", "-c", shell(made)], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode
    assert "set RERANK_KEY" in run.stderr
    assert not run.stdout


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """What compose makes of a parsed file: the forms that are written here, `$$` and nothing else."""
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
        cpu=False,
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
    expected = made.command("0.0.0.0", "/etc/qwen3-reranker/template.jinja")
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


def test_a_folder_is_mounted_where_it_lies(tmp_path: Path) -> None:
    repository = tmp_path / "models--acme--$reranker"
    snapshot = repository / "snapshots/abc"
    shutil.copytree(DEMO_MODEL, snapshot)
    made = launch(snapshot, version="0.32.0", cpu=True)
    content = yaml.safe_load(compose(made))
    service = interpolated(content, {})["services"]["reranker"]
    [volume] = service["volumes"]
    assert volume["source"] == volume["target"] == str(repository)
    assert volume["read_only"] is True
    assert str(snapshot) in service["command"]
    assert "deploy" not in service
    assert service["image"].endswith("vllm-cpu-release-repo:v0.32.0")
    with pytest.raises(InputError, match="give image="):
        compose(launch("demo", engine="sglang", cpu=True))
    assert "image: mine\n" in compose(launch("demo", engine="sglang", cpu=True), image="mine")


def docker_compose() -> bool:
    docker = shutil.which("docker")
    command = [docker or "", "compose", "version"]
    return docker is not None and not subprocess.run(command, capture_output=True).returncode  # noqa: PLW1510


@pytest.mark.skipif(not docker_compose(), reason="Docker Compose is not installed")
@pytest.mark.parametrize("engine", ["vllm", "vllm-ascend", "sglang"])
def test_docker_compose_accepts_the_file(tmp_path: Path, engine: EngineName) -> None:
    made = launch(MODEL, engine=engine, cpu=False, api_key_variable="RERANK_KEY", served_name="$x")
    file = tmp_path / "compose.yaml"
    file.write_text(compose(made))
    command = ["docker", "compose", "-f", str(file), "config", "--format", "json"]
    env = {**os.environ, "RERANK_KEY": "k"}
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr
    service = json.loads(run.stdout)["services"]["reranker"]
    assert service["volumes"][0]["source"].endswith("/.cache/huggingface")


def test_no_name_ends_a_comment() -> None:
    made = launch("acme/x\nrm -rf /", version="0.26.0", kind="causal", cpu=False)
    title = "# acme/x rm -rf / (causal) on vllm 0.26.0"
    assert shell(made).splitlines()[0] == compose(made).splitlines()[0] == title


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["y", "No", "1e3", "~"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None, max_examples=50)
@given(value=st.dictionaries(st.text(), VALUES, min_size=1))
def test_yaml_is_read_back_as_it_was(value: Any) -> None:
    assert yaml.safe_load(dump(value)) == value


def test_no_text_becomes_a_number() -> None:
    # In YAML 1.1, 1.2 or both.
    for text in ("1e3", "0o17", "017", "1_000", "12:30", "2026-01-01", ".inf", "yes", "~", "="):
        assert dump({"a": text}) == f'a: "{text}"\n'


@settings(deadline=None)
@given(lines=st.lists(st.text(st.sampled_from("ab :#-{%\t\n "))))
def test_blocks_are_read_back_as_they_were(lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    assert yaml.safe_load(dump({"text": text})) == {"text": text}


PIECES = st.lists(
    st.sampled_from([*CONTROL_TOKENS, "<", "<|", "|>", "im_end", "a", " ", "\n", "{{"])
)
TEXT = PIECES.map("".join)


@pytest.mark.parametrize("options", [{}, {"trim_blocks": True, "lstrip_blocks": True}])
@pytest.mark.parametrize(
    ("file", "roles", "name"),
    [
        ("vllm_score.jinja", ("query", "document"), "instruction"),
        ("sglang_rerank.jinja", ("user", "user"), "instruct"),
    ],
)
@settings(deadline=None)
@given(query=TEXT, document=TEXT, instruction=TEXT | st.none())
def test_the_templates_write_what_the_client_writes(
    options: dict[str, bool],
    file: str,
    roles: tuple[str, str],
    name: str,
    query: str,
    document: str,
    instruction: str | None,
) -> None:
    template = compiled(file, **options)
    messages = [{"role": r, "content": c} for r, c in zip(roles, (query, document), strict=True)]
    writer = TextWriter()
    asked = DEFAULT_INSTRUCTION if instruction is None else instruction
    expected = writer.head(query, asked) + writer.tail(writer.harmless(document))
    assert template.render({"messages": messages, name: instruction}) == expected
    assert expected.endswith("</think>\n\n")
    if instruction is None:
        assert template.render({"messages": messages}) == expected


CONTENT = (
    TEXT
    | st.none()
    | st.integers()
    | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), max_size=2)
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "user", "assistant", "tool", "query", "document"]),
            "content": CONTENT,
            "name": TEXT,
        },
    ),
    max_size=4,
)


@pytest.mark.parametrize("file", ["vllm_score.jinja", "sglang_rerank.jinja"])
@settings(deadline=None)
@given(messages=MESSAGES)
@example(messages=[{"role": "user", "content": "warmup"}])  # vLLM 0.32, when it starts
def test_the_templates_render_any_messages(file: str, messages: list[dict[str, Any]]) -> None:
    prompt = compiled(file, trim_blocks=True, lstrip_blocks=True).render({"messages": messages})
    assert prompt.startswith(PREFIX) and prompt.endswith(SUFFIX)
    # Whatever they hold, no message ends its turn or opens another.
    assert sum(map(prompt.count, CONTROL_TOKENS)) == sum(map(TEMPLATE.count, CONTROL_TOKENS))


_compiled: dict[Any, Any] = {}


def compiled(file: str, **options: bool) -> Any:
    key = (file, *options)
    if key not in _compiled:
        environment = ImmutableSandboxedEnvironment(**options)
        _compiled[key] = environment.from_string((TEMPLATES / file).read_text())
    return _compiled[key]


def test_sglang_takes_its_template_for_the_right_models() -> None:
    text = (TEMPLATES / "sglang_rerank.jinja").read_text()
    assert 'answer can only be "yes" or "no"' in text
    # One with these is taken for a template of Qwen3-VL.
    assert "<|vision_start|>" not in text
    assert "<|image_pad|>" not in text


@pytest.mark.parametrize("line", [0, 1])
def test_the_lines_for_the_frameworks_work(monkeypatch: pytest.MonkeyPatch, line: int) -> None:
    monkeypatch.setenv("RERANK_KEY", "k")
    for variable in ("RERANK_KEY", None):
        made = launch("demo", host="::", port=8123, api_key_variable=variable)
        names: dict[str, Any] = {}
        exec(usage(made)[line], names)
        assert names["reranker"].base_url == "http://[::1]:8123"
        names["reranker"].close()
