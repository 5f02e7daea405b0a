"""The subcommands `evaluate` and `tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qwen3_reranker.cli.console import err
from qwen3_reranker.cli.declared_options import with_options
from qwen3_reranker.cli.options import Devices, Eager, Engine, EnginePython, engine_args
from qwen3_reranker.errors import InputError
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
from qwen3_reranker.terminal import escape_control

__all__ = ["evaluate", "tune"]

Data = Annotated[
    str,
    typer.Argument(
        help="The dataset: a .jsonl file of queries with documents, a .json file of LlamaIndex, or "
        "a folder with corpus, queries and qrels (BEIR or TREC)."
    ),
]
Run = Annotated[
    Path | None,
    typer.Option(
        help="The candidates of each query, in TREC's run format. Default: the run in the folder, "
        "or the best that BM25 finds."
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="Which judgments of a BEIR folder to use. Default: test, or the only ones."),
]
MinGrade = Annotated[int, typer.Option(help="The lowest grade that counts as relevant.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="The file in which scores are stored, so that none is computed twice. Default: one in "
        "your folder for caches."
    ),
]
_JSON_HELP = "Write the report to this file, whose name ends in .json."


@with_options(ConnectionOptions, ServerOptions, panel="Options for a server")
@with_options(LongDocumentOptions, panel="Options for long documents")
def evaluate(
    data: Data,
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A Hugging Face name, a folder, or demo; with --base-url the model's name on the "
            "server. Repeat it to compare models."
        ),
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(help="The URL of a server to score with. Repeat it to compare servers."),
    ] = None,
    instruction: Annotated[
        list[str] | None,
        typer.Option(
            help="What makes a document a good match, in one English sentence; default for the "
            "model card's; @FILE for a file with one per line. Repeat it to compare instructions."
        ),
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(
            help="How many candidates are reranked, such as 50, or 20,50,100 to compare. Default: "
            "all."
        ),
    ] = None,
    max_length: Annotated[
        str | None,
        typer.Option(
            help="The maximum number of tokens in a prompt, such as 1024, or 512,1024 to compare."
        ),
    ] = None,
    run: Run = None,
    split: Split = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="What to measure: nDCG@K, MRR@K, hit@K, recall@K or P@K. The first decides about "
            "recommendations. Repeat it for more. Default: nDCG@10, MRR@10, hit@1, hit@5, "
            "recall@10, P@5."
        ),
    ] = None,
    min_grade: MinGrade = 1,
    precision: Annotated[
        float,
        typer.Option(
            help="The share of relevant documents for which a threshold is recommended, 0 to 1."
        ),
    ] = 0.8,
    cache: Cache = None,
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Write the report with tables and plots to this file, whose name ends in .html.",
        ),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help=_JSON_HELP)] = None,
    engine: Engine = "auto",
    engine_python: EnginePython = None,
    devices: Devices = None,
    eager: Eager = False,
    **options: Any,
) -> None:
    """
    Measure whether reranking helps on your own queries, and with which settings.

    Every combination of the models or servers, instructions, depths and lengths is compared with
    the retriever's order. A run that was stopped goes on where it was.
    """
    from qwen3_reranker.evaluation import DEFAULT_METRICS, Dataset, System
    from qwen3_reranker.evaluation import evaluate as evaluate_systems
    from qwen3_reranker.evaluation.report import require_matplotlib

    _check_file("--report", report_file, ".html")
    _check_file("--json", json_file, ".json")
    if report_file is not None:
        require_matplotlib()
    systems = System.combinations(
        models=model or [None],
        base_urls=base_url or [None],
        instructions=_instructions(instruction or ["default"]),
        max_lengths=_numbers("max_length", max_length),
        depths=_numbers("depth", depth),
        **_options(
            base_url,
            options,
            engine=engine,
            engine_python=engine_python,
            devices=devices,
            eager=eager,
        ),
    )
    report = evaluate_systems(
        Dataset.load(data, split=split, run=run),
        systems,
        metrics=metric or DEFAULT_METRICS,
        min_grade=min_grade,
        precision=precision,
        progress=err.is_terminal,
        cache=cache or "default",
    )
    print(escape_control(report.summary()))
    for file in (report_file, json_file):
        if file is not None:
            report.save(file)


@with_options(ConnectionOptions, ServerOptions, panel="Options for a server")
@with_options(LongDocumentOptions, panel="Options for long documents")
def tune(
    data: Data,
    instructions: Annotated[
        str, typer.Argument(help="A file with the instructions to choose from, one per line.")
    ],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            help="A Hugging Face name, a folder, or demo; with --base-url the model's name on the "
            "server."
        ),
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            help="The URL of a server to score with. Repeat it to add servers to fall back on."
        ),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="How many candidates are reranked. Default: all.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="The maximum number of tokens in a prompt.")
    ] = None,
    run: Run = None,
    split: Split = None,
    metric: Annotated[
        str, typer.Option(help="What decides: nDCG@K, MRR@K, hit@K, recall@K or P@K.")
    ] = "nDCG@10",
    min_grade: MinGrade = 1,
    seed: Annotated[int, typer.Option(help="Decides which queries are in which half.")] = 0,
    cache: Cache = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write the report of the half that was not used to choose to this file, whose "
            "name ends in .json.",
        ),
    ] = None,
    engine: Engine = "auto",
    engine_python: EnginePython = None,
    devices: Devices = None,
    eager: Eager = False,
    **options: Any,
) -> None:
    """Choose an instruction on one half of the queries, and measure it on the other."""
    from qwen3_reranker.evaluation import Dataset, System
    from qwen3_reranker.evaluation import tune as tune_instruction

    _check_file("--json", json_file, ".json")
    options = _options(
        base_url, options, engine=engine, engine_python=engine_python, devices=devices, eager=eager
    )
    report = tune_instruction(
        Dataset.load(data, split=split, run=run),
        System(model=model, base_url=base_url, depth=depth, max_length=max_length, options=options),
        _lines(instructions),
        metric=metric,
        seed=seed,
        min_grade=min_grade,
        progress=err.is_terminal,
        cache=cache or "default",
    )
    print(escape_control(report.table()))
    if json_file is not None:
        report.reported_on.save(json_file)


def _options(
    base_url: list[str] | None, given: dict[str, Any], *, eager: bool, **embedded: Any
) -> dict[str, Any]:
    """Return the arguments of `Reranker` that are not settings of a `System`."""
    if not base_url:  # a key in the environment is not for an embedded engine
        given.pop("api_key", None)
    return {"engine_args": engine_args(eager=eager), **embedded, **given}


def _check_file(option: str, file: Path | None, suffix: str) -> None:
    """Refuse a file that the report could not be written to, before anything is scored."""
    if file is not None and (file.suffix != suffix or not file.absolute().parent.is_dir()):
        raise InputError(
            f"{option} {file}: give a name that ends in {suffix}, in a folder that exists"
        )


def _instructions(texts: list[str]) -> list[str | None]:
    """Return the instructions that the option stands for; None is the default one."""
    found = [
        line for text in texts for line in (_lines(text[1:]) if text.startswith("@") else [text])
    ]
    return [None if text == "default" else text for text in dict.fromkeys(found)]


def _lines(file: str) -> list[str]:
    """Return the lines of a file that are not blank."""
    try:
        text = Path(file).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as a file of instructions: {error}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file} has no instruction: write one per line")
    return lines


def _numbers(name: str, text: str | None) -> list[int | None]:
    """Return the numbers in a text such as 20,50,100."""
    if text is None:
        return [None]
    try:
        return [int(part) for part in dict.fromkeys(text.split(","))]
    except ValueError:
        raise InputError(f"{name}={text!r}: give whole numbers, such as 20,50,100") from None
