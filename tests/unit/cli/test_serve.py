"""`serve --print` on the command line."""

from __future__ import annotations

from typing import Any

import pytest
import typer
import yaml

from qwen3_reranker.cli.app import app
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


@pytest.mark.parametrize("key", [False, True])
def test_the_gateway_knows_the_arguments_that_its_container_has(*, key: bool) -> None:
    arguments = gateway_arguments("http://engine:8000", 9000, key=key)
    group: Any = typer.main.get_command(app)
    given = group.commands["gateway"].make_context("gateway", arguments).params
    assert given["base_url"] == ["http://engine:8000"]
    assert (given["host"], given["port"]) == ("0.0.0.0", 9000)
    assert given["allow_no_key"] is not key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gateway",), "--gateway: give --print compose or --print kubernetes, too"),
        (("--print", "compose", "--gateway-image", "x"), "--gateway-image: give --gateway, too"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(
    call: Call, arguments: tuple[str, ...], message: str
) -> None:
    code, output, error = call(*SERVE, *arguments)
    assert code == 2 and not output
    assert message in error
