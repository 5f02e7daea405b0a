"""`qwen3-reranker convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from qwen3_reranker.cli.console import err, say

__all__ = ["convert"]

# A conversion in fp32 moves scores by less.
_CLOSE = 2e-3


def convert(
    source: Annotated[str, typer.Argument(help="An original (causal) checkpoint, or a hub name.")],
    target: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    *,
    labels: Annotated[
        int | None,
        typer.Option(min=1, max=2, help="1: yes - no; 2: no and yes. For SGLang 2, else 1."),
    ] = None,
    engine: Annotated[
        Literal["vllm", "sglang", "transformers"] | None,
        typer.Option("--for", help="What will serve it."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Score golden pairs with both.")] = False,
) -> None:
    """Make a classifier of a causal checkpoint, without loading it."""
    from qwen3_reranker import deploy
    from qwen3_reranker.deploy.verify import check_libraries

    if verify:
        # Before anything is written.
        check_libraries()
    done = deploy.convert(
        source,
        target,
        labels=cast(Literal[1, 2] | None, labels),
        engine=engine,
        progress=err.is_terminal,
    )
    say(
        f"{done.folder}: {done.labels} label(s), head in {done.dtype}, {len(done.linked)} files "
        f"linked ({done.linked_bytes / 1e9:.2f} GB), {len(done.copied)} copied "
        f"({done.copied_bytes / 1e9:.2f} GB)"
    )
    if not verify:
        return
    found = deploy.verify(source, target)
    print(found)
    if found.difference > _CLOSE:
        raise typer.Exit(1)
