"""`serve --print` on the command line."""

from __future__ import annotations

from typing import Any

import pytest
import typer
import yaml

from qwen3_reranker.cli.app import app
from qwen3_reranker.serve import launch
from qwen3_reranker.serve.gateway_image import gateway_arguments

from support.command_line import Call

SERVE = ("serve", "demo", "--version", "0.32.0", "--device", "gpu")


def test_it_prints_manifests_with_the_gateway(call: Call) -> None:
    options = ("--gateway", "--gateway-image", "acme/gateway:1", "--image", "acme/engine:1")
    code, output, _ = call(*SERVE, "--print", "kubernetes", *options)
    assert code == 0
    [pod] = [
        document["spec"]["template"]["spec"]
        for document in yaml.safe_load_all(output)
        if document["kind"] == "Deployment"
    ]
    images = [one["image"] for one in pod["initContainers"] + pod["containers"]]
    assert images == ["acme/engine:1", "acme/gateway:1"]


def test_it_prints_the_dockerfile_that_compose_builds(call: Call) -> None:
    code, output, _ = call(*SERVE, "--print", "dockerfile")
    assert code == 0 and output.startswith("FROM python:")
    code, file, _ = call(*SERVE, "--print", "compose", "--gateway")
    build = yaml.safe_load(file)["services"]["gateway"]["build"]
    assert (code, build["dockerfile_inline"]) == (0, output)


def gateway_options(arguments: list[str]) -> dict[str, Any]:
    """Return the options of the command `gateway` as it reads its arguments."""
    group: Any = typer.main.get_command(app)
    given: dict[str, Any] = group.commands["gateway"].make_context("gateway", arguments).params
    return given


@pytest.mark.parametrize("key", [False, True])
def test_the_gateway_knows_the_arguments_that_its_container_has(*, key: bool) -> None:
    plan = launch("demo", version="0.32.0", device="gpu", port=9000)
    given = gateway_options(gateway_arguments(plan, "http://engine:8000", key=key))
    assert list(given["base_url"]) == ["http://engine:8000"]
    assert (given["host"], given["port"]) == ("0.0.0.0", 9000)
    assert given["allow_no_key"] is not key


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("length", [None, 4096, 16384])
@pytest.mark.parametrize("kind", ["compose", "kubernetes"])
def test_the_gateway_cuts_prompts_where_the_user_said(
    call: Call, kind: str, length: int | None, engine: str
) -> None:
    limit = () if length is None else ("--max-length", str(length))
    options = ("--engine", engine, "--device", "gpu", "--print", kind, "--gateway", *limit)
    code, text, error = call("serve", "Qwen/Qwen3-Reranker-0.6B", *options)
    assert code == 0, error
    engine_arguments, gateway_arguments = container_arguments(text)
    option = "--max-model-len" if engine == "vllm" else "--context-length"
    taken = int(engine_arguments[engine_arguments.index(option) + 1])
    given = gateway_options(gateway_arguments)["max_length"]
    # Without the option, it is 8192 or what the server takes, as for every client.
    assert (given or min(8192, taken)) == (length or 8192)


def container_arguments(text: str) -> tuple[list[str], list[str]]:
    """Return the arguments of the engine and of the gateway in a compose file or in manifests."""
    documents = list(yaml.safe_load_all(text))
    if "services" in documents[0]:
        services = documents[0]["services"]
        return services["reranker"]["command"], services["gateway"]["command"]
    [pod] = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
    [engine], [gateway] = pod["initContainers"], pod["containers"]
    return engine["args"], gateway["args"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gateway",), "--gateway: give --print compose or --print kubernetes, too"),
        (("--name", "x"), "--name: give --print compose or --print kubernetes, too"),
        (("--image", "x"), "--image: give --print compose or --print kubernetes, too"),
        (("--print", "dockerfile", "--name", "x"), "--name: give --print compose"),
        (("--print", "shell", "--image", "x"), "--image: give --print compose"),
        (("--print", "shell", "--quiet"), "--quiet: leave it out, or leave --print out"),
        (("--print", "compose", "--log-file", "x"), "--log-file: leave it out, or leave --print"),
        (("--print", "compose", "--name", "A"), "--name A: give 1 to 63 lower-case letters"),
        (("--print", "kubernetes", "--name", ""), "--name '': give 1 to 63 lower-case letters"),
        (("--print", "compose", "--gateway-image", "x"), "--gateway-image: give --gateway, too"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(
    call: Call, arguments: tuple[str, ...], message: str
) -> None:
    code, output, error = call(*SERVE, *arguments)
    assert code == 2 and not output
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--", "--port", "9000"),
            "after -- on the command line) hold --port, which",
        ),
        (("--", "--port=9000"), "give --port instead"),
        (("--", "--host", "0.0.0.0"), "give --host instead"),
        (("--", "--api-key", "sk-1"), "give --api-key-variable instead"),
        (("--", "--max-model-len", "100"), "give --max-length instead"),
    ],
)
def test_an_engine_argument_that_contradicts_an_option_is_refused(
    call: Call, arguments: tuple[str, ...], message: str
) -> None:
    code, output, error = call(*SERVE, "--print", "shell", *arguments)
    assert code == 2 and not output
    assert message in error


@pytest.mark.parametrize("options", [("shell",), ("compose",), ("compose", "--gateway")])
@pytest.mark.parametrize("is_set", [False, True])
def test_a_file_requires_the_key_that_is_set_where_it_is_written(
    call: Call, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], *, is_set: bool
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    if is_set:
        monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    code, output, _ = call(*SERVE, "--print", *options)
    assert code == 0 and "sk-secret" not in output
    assert ("${VLLM_API_KEY:?" in output) == is_set
