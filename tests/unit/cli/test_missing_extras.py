"""The commands `gateway` and `playground` where only some of the extras are installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qwen3_reranker.addresses import listen

pytestmark = pytest.mark.slow

# What the extras bring, beside what other parts of the package need.
GATEWAY = ("fastapi", "prometheus_client", "starlette", "uvicorn")
PLAYGROUND = ("gradio",)


def run_without(modules: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that cannot import some modules."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
        "from qwen3_reranker.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "missing", "needed"),
    [
        ("gateway", (*GATEWAY, *PLAYGROUND), "the gateway needs fastapi"),
        ("gateway", ("prometheus_client",), "the gateway needs prometheus_client"),
        ("gateway", ("uvicorn",), "serving needs uvicorn"),
        ("playground", (*GATEWAY, *PLAYGROUND), "the playground needs gradio"),
    ],
)
def test_a_missing_extra_is_named(command: str, missing: tuple[str, ...], needed: str) -> None:
    extra = "playground" if "playground" in needed else "gateway"
    done = run_without(missing, command, "demo", "--port", "0")
    assert f"error: {needed}: pip install 'qwen3-reranker[{extra}]'" in done.stderr
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_the_playground_does_not_need_the_extra_of_the_gateway() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = str(listener.getsockname()[1])
        done = run_without(("prometheus_client",), "playground", "demo", "--port", port)
    assert f"error: --port {port} is used by another program" in done.stderr
    assert done.returncode == 2
