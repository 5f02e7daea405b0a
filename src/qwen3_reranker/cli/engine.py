"""The subcommands `install-engine` and `uninstall-engine`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.text import Text

from qwen3_reranker.cli.console import err, say
from qwen3_reranker.terminal import escape_control

__all__ = ["install_engine", "uninstall_engine"]


def install_engine(
    *,
    cpu: Annotated[bool, typer.Option("--cpu", help="Install the build for CPUs.")] = False,
    cuda: Annotated[
        bool, typer.Option("--cuda", help="Install the build for NVIDIA GPUs.")
    ] = False,
    version: Annotated[
        str | None,
        typer.Option(
            help="The version of vLLM. Default: the newest version that this package is tested "
            "with."
        ),
    ] = None,
) -> None:
    """
    Install vLLM into a private environment, separate from your application's.

    Without --cpu or --cuda, this installs the build for NVIDIA GPUs if their driver is installed,
    otherwise the build for CPUs.

    Run the command again to continue an interrupted installation.
    """
    from qwen3_reranker.embedded import environment

    if cpu and cuda:
        raise typer.BadParameter("give --cpu or --cuda, not both")
    device: Literal["cpu", "cuda"] | None = "cpu" if cpu else "cuda" if cuda else None
    before = environment.installed_engine()
    with err.status("environment") as status:
        shown = ""

        def on_progress(stage: str, line: str) -> None:
            nonlocal shown
            if not err.is_terminal and stage != shown:
                say(stage)
            shown = stage
            status.update(Text(escape_control(f"{stage}: {line[:100]}")))

        engine = environment.install_engine(device=device, version=version, on_progress=on_progress)
    state = "is already installed" if engine == before else "is installed"
    say(f"vLLM {engine.version} ({engine.device}) {state}: {engine.python}")


def uninstall_engine() -> None:
    """Remove the private environment that install-engine created."""
    from qwen3_reranker.embedded import environment

    removed = environment.uninstall_engine()
    say("removed the private environment" if removed else "no engine is installed")
