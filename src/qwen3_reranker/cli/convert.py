"""The subcommand `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from qwen3_reranker.cli.console import err, say
from qwen3_reranker.convert.conversion import Engine
from qwen3_reranker.convert.quantize import NumberFormat

__all__ = ["convert"]


def convert(
    source: Annotated[
        str, typer.Argument(help="The original checkpoint: a folder or a Hugging Face name.")
    ],
    target: Annotated[
        Path, typer.Argument(help="The folder to create; if it exists, it must be empty.")
    ],
    *,
    labels: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2,
            help="Number of outputs: 1 (the difference of the yes and no logits) or 2 (both). "
            "Default: 2 for SGLang, otherwise 1.",
        ),
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(
            "--for",
            help="The program that will run the converted model. With transformers, the "
            "CrossEncoder of sentence-transformers 5.4 or later writes the Qwen3 prompt. Infinity "
            "and SGLang's /v1/classify never write it, so their clients must.",
        ),
    ] = None,
    quantize: Annotated[
        NumberFormat | None,
        typer.Option(
            help="Write the weights in eight bits, for vLLM: int8 (CPUs and GPUs) or fp8 (GPUs)."
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Score example pairs with the original and the converted model, and compare.",
        ),
    ] = False,
) -> None:
    """Convert an original Qwen3-Reranker to a sequence classifier without loading it."""
    from qwen3_reranker.convert import convert as convert_checkpoint
    from qwen3_reranker.convert import verify as compare_scores
    from qwen3_reranker.convert.verification import check_libraries

    if verify:
        # Before anything is written.
        check_libraries()
    done = convert_checkpoint(
        source,
        target,
        labels=cast(Literal[1, 2] | None, labels),
        engine=engine,
        quantize=quantize,
        progress=err.is_terminal,
    )
    parts = [
        f"{done.labels} label(s)",
        f"head in {done.dtype}",
        f"{len(done.linked)} files linked ({done.linked_bytes / 1e9:.2f} GB)",
        f"{len(done.copied)} copied ({done.copied_bytes / 1e9:.2f} GB)",
    ]
    if done.quantization is not None:
        size = f"{done.quantized_bytes / 1e9:.2f} GB"
        parts.append(f"{len(done.quantized)} quantized to {done.quantization} ({size})")
    say(f"{done.folder}: {', '.join(parts)}")
    if not verify:
        return
    comparison = compare_scores(source, target)
    print(comparison)
    if not comparison.difference <= comparison.tolerance:  # NaN is a difference, too
        raise typer.Exit(1)
