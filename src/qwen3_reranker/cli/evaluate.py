"""The subcommands `evaluate` and `tune`."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from qwen3_reranker.cli.console import err
from qwen3_reranker.cli.declared_options import with_options, without_unused_key
from qwen3_reranker.cli.options import Devices, Eager, Engine, EnginePython, engine_args
from qwen3_reranker.errors import InputError
from qwen3_reranker.options import declared
from qwen3_reranker.output_files import require_writable
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
from qwen3_reranker.terminal import escape_control

__all__ = ["backends", "evaluate", "tune"]

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
        help="The file in which scores are stored, so that none is computed twice. Use another one "
        "when a server gets other weights under the same model name. Default: one in your folder "
        "for caches."
    ),
]
_AT_URL = re.compile(r"(.*?)@(https?://.+)")
_JSON_HELP = "Write the report to this file, whose name ends in .json."


@with_options(ConnectionOptions, ServerOptions, panel="Options for a server")
@with_options(LongDocumentOptions, panel="Options for long documents")
def evaluate(
    data: Data,
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A Hugging Face name, a folder, or demo; with --base-url the model's name on each "
            "of the servers. NAME@URL is a model on one server, and @URL the one that it lists. "
            "Repeat it to compare models."
        ),
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            help="The URL of a server to score with. Repeat it to compare servers. URLs with "
            "commas between them are servers of the same model that share the work."
        ),
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
            help="How many candidates are reranked, such as 50, or 20,50,all to compare. Default: "
            "all."
        ),
    ] = None,
    max_length: Annotated[
        str | None,
        typer.Option(
            help="The maximum number of tokens in a prompt, such as 1024, or 512,default to "
            "compare."
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

    Every combination of the models, servers, instructions, depths and lengths is compared with
    the retriever's order. A run that was stopped goes on where it was.
    """
    from qwen3_reranker.evaluation import DEFAULT_METRICS, Dataset, System
    from qwen3_reranker.evaluation import evaluate as evaluate_systems
    from qwen3_reranker.evaluation.report import require_matplotlib

    require_writable("--report", report_file, ".html")
    require_writable("--json", json_file, ".json")
    if report_file is not None:
        require_matplotlib()
    pairs = backends(model or [], base_url or [])
    settings: dict[str, Any] = {
        "instructions": _instructions(instruction or ["default"]),
        "max_lengths": _numbers("max_length", max_length, "default"),
        "depths": _numbers("depth", depth, "all"),
    }
    given = partial(
        _options,
        given=options,
        mixed=len({urls is None for _, urls in pairs}) > 1,
        engine=engine,
        engine_python=engine_python,
        devices=devices,
        eager=eager,
    )
    systems = [
        system
        for name, urls in pairs
        for system in System.combinations(
            models=[name], base_urls=[urls], **settings, **given(urls)
        )
    ]
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
    for file in (json_file, report_file):  # numbers first, because drawing may fail
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

    require_writable("--json", json_file, ".json")
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


def backends(models: list[str], base_urls: list[str]) -> list[tuple[str | None, list[str] | None]]:
    """
    Return the model and the servers of each reranker that the options stand for.

    A model at a URL stands for itself. Each of the others is combined with each base URL.
    """
    servers: list[list[str] | None] = [_urls(text) for text in base_urls]
    given: list[str | None] = [*models]
    if all(_AT_URL.fullmatch(model) for model in models) and (base_urls or not models):
        given.append(None)
    found: list[tuple[str | None, list[str] | None]] = []
    for model in given:
        if at := _AT_URL.fullmatch(model or ""):
            found.append((at[1] or None, _urls(at[2])))
        else:
            found += [(model, urls) for urls in servers or [None]]
    return found


def _urls(text: str) -> list[str]:
    """Return the URLs in a text, which commas separate."""
    return re.split(r",(?=https?://)", text)


def _options(
    base_url: list[str] | None,
    given: dict[str, Any],
    *,
    mixed: bool = False,
    eager: bool,
    **embedded: Any,
) -> dict[str, Any]:
    """
    Return the arguments of `Reranker` that are not settings of a `System`.

    Args:
        base_url: The servers. None for an embedded engine.
        given: The options for servers and for long documents that were given.
        mixed: Whether engines are compared with servers. Each of them then gets only the options
            that it can use; else an option that no system can use is an error.
        eager: Whether `--eager` was given.
        **embedded: The other options for an embedded engine.
    """
    embedded["engine_args"] = engine_args(eager=eager)
    if not mixed:
        return embedded | without_unused_key(given, base_url)
    if base_url:
        return dict(given)
    unusable = declared(ServerOptions).keys() - {"timeout"}
    return embedded | {name: value for name, value in given.items() if name not in unusable}


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


def _numbers(name: str, text: str | None, word: str) -> list[int | None]:
    """Return the numbers in a text, separated by commas; a word stands for None."""
    if text is None:
        return [None]
    parts = dict.fromkeys(part.strip() for part in text.split(","))
    try:
        return [None if part == word else int(part) for part in parts]
    except ValueError:
        raise InputError(
            f"{name}={text!r}: give whole numbers or {word}, with commas between them"
        ) from None
