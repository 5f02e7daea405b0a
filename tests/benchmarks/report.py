"""
Write the tables and plots of docs/explanation/performance.md from the committed results.

    python -m benchmarks.report               # after a run; the tests compare the two
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.bench_embedded import CHAIN_DOCUMENTS, TOGETHER, Rates, ratios
from benchmarks.bench_remote import percentile_99
from benchmarks.clients import CONCURRENCIES
from benchmarks.contenders import CHAINS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/explanation/performance.md"
NAMES = {
    "reranker": "`Reranker.rerank`",
    "langchain": "LangChain's `Qwen3Rerank`",
    "llama_index": "LlamaIndex's `Qwen3Rerank`",
    "raw": "raw engine, this package's token IDs and arguments",
    "llm_score": "`LLM.score`, default arguments",
    "transformers": '`Reranker` with `engine="transformers"`',
    "recipe_8": "model card's script, batches of 8",
    "recipe": "model card's script, one batch",
    "cross_encoder": "sentence-transformers CrossEncoder",
    "raw_batch": "raw engine, all in one batch",
    "chains": f"{CHAINS} threads with a chain each",
    "rerank_many": "`Reranker.rerank_many`",
    "bare": "bare httpx loop, bodies encoded beforehand",
    "bare_tokenizing": "bare httpx loop, encoding each body",
    "ours": "`Reranker.arerank`",
    "gateway": "gateway",
    "vllm": "vLLM's own `/v1/rerank`",
    "http_reranker": "langchain-reranker's HttpReranker",
    "langchain_cohere": "langchain-cohere's CohereRerank",
    "llama_index_cohere": "LlamaIndex's CohereRerank",
}


def about(name: str) -> str:
    """Return the command, date, machine and versions of a run."""
    found = record.load(name)["about"]
    versions = ", ".join(f"{n} {v}" for n, v in found["versions"].items())
    return f"`{found['command']}`, {found['date']}: {found['machine']}; {versions}."


def embedded() -> str:
    """Return the throughput of all contenders, and the ratio of Reranker's to each."""
    found = record.load("embedded")
    rates, tokens = found["rates"], found["tokens"]
    medians = _medians(rates)
    sizes = ("64", "256")
    rows = []
    for mode in (mode for mode in NAMES if "64" in rates.get(mode, {})):
        times = [_times(rates, mode, size) if size in rates[mode] else "" for size in sizes]
        rows.append(
            [
                NAMES[mode],
                *(f"{medians[mode][size]:.1f}" if size in rates[mode] else "" for size in sizes),
                f"{medians[mode]['64'] * tokens['64']:,.0f}",
                *times,
            ]
        )
    head = ["documents per second", "64 per query", "256 per query", "tokens/s, 64"]
    return _table([*head, "Reranker / this, 64", "256"], rows)


def transformers() -> str:
    """Return the throughput of the transformers engine and of CrossEncoder."""
    rates = record.load("transformers")["rates"]
    medians = _medians(rates)
    rows = []
    for size in ("64", "256"):
        shares = ratios(rates, "transformers", "cross_encoder", size)
        numbers = [f"{medians[mode][size]:.1f}" for mode in ("transformers", "cross_encoder")]
        turns = ", ".join(f"{share:.1f}" for share in sorted(shares))
        rows.append([f"{size} per query", *numbers, f"{statistics.median(shares):.1f}", turns])
    names = [NAMES[mode] for mode in ("transformers", "cross_encoder")]
    return _table(["documents", *names, "ratio", "ratio of each run"], rows)


def limit() -> str:
    """Return the throughput through this package as a share of the raw engine's."""
    found = record.load("limit")
    rates, medians = found["rates"], _medians(found["rates"])
    rows = []
    for work, size, engine, modes in (
        ("64 per query", "64", "raw", ("reranker", "langchain", "llama_index")),
        ("256 per query", "256", "raw", ("reranker", "langchain", "llama_index")),
        (f"{CHAINS} queries of {CHAIN_DOCUMENTS}", str(CHAIN_DOCUMENTS), "raw_batch", TOGETHER[1:]),
    ):
        rows.append([work, NAMES[engine], f"{medians[engine][size]:.1f}", "", ""])
        for mode in modes:
            low, share, high = statistics.quantiles(ratios(rates, mode, engine, size))
            half = f"{low:.2f} to {high:.2f}"
            rows.append([work, NAMES[mode], f"{medians[mode][size]:.1f}", f"{share:.3f}", half])
    return _table(
        ["documents", "", "documents per second", "share", "middle half of the runs"], rows
    )


def remote() -> str:
    """Return throughput, CPU time and p99 of each client, compared with the bare loop."""
    found = record.load("remote")
    turns = found["turns"]
    rows = []
    for mode, outcomes in turns.items():
        client, _, concurrency = mode.partition("@")
        if not concurrency:
            continue
        bare = turns[f"bare@{concurrency}"]
        rate, p99 = _median(outcomes, "rate"), _p99(outcomes)
        rows.append(
            [
                concurrency,
                NAMES[client],
                f"{rate:.0f}",
                f"{_share(outcomes, bare):.2f}",
                f"{p99 * 1000:.0f}",
                f"{p99 / _p99(bare):.2f}",
                f"{_median(outcomes, 'cpu_us'):.0f}",
            ]
        )
    rows.sort(key=lambda row: CONCURRENCIES.index(int(row[0])))
    head = [
        "concurrency",
        "client",
        "documents/s",
        "share",
        "p99 ms",
        "p99 / bare p99",
        "CPU µs/document",
    ]
    tokenizing, slowly = (_median(turns[name], "cpu_us") for name in ("tokenize", "tokenizers"))
    refused = [
        f"{NAMES[name]} could not be measured: its requests fail with {why}."
        for name, why in found["refused"].items()
    ]
    spent = (
        f"Of this package's CPU time, {tokenizing:.0f} µs per document are spent on tokenizing, "
        f"which would take {slowly:.0f} µs with `tokenizers` alone."
    )
    notes = [spent, *refused]
    return "\n".join([_table(head, rows), "", *notes])


def gateway() -> str:
    """Return throughput, p99 and CPU time of the gateway and of vLLM's own endpoint."""
    found = record.load("gateway")
    turns, ratios_by_callers = found["turns"], found["ratios"]
    rows = []
    for callers, share in ratios_by_callers.items():
        for name in ("gateway", "vllm"):
            outcomes = turns[f"{name}@{callers}"]
            own = name == "gateway"
            rows.append(
                [
                    callers,
                    NAMES[name],
                    f"{_median(outcomes, 'rate'):.0f}",
                    f"{share['throughput']:.2f}" if own else "",
                    f"{_p99(outcomes) * 1000:.0f}",
                    f"{share['p99']:.2f}" if own else "",
                    f"{_median(outcomes, 'frontend_cpu_ms'):.1f}",
                    f"{_median(outcomes, 'engine_cpu_ms'):.0f}",
                ]
            )
    head = [
        *("callers", "", "documents/s", "share", "p99 ms", "p99 / vLLM's"),
        *("CPU ms/request: HTTP and tokens", "engine"),
    ]
    return _table(head, rows)


def load() -> str:
    """Return what became of the calls while a server behind the gateway was killed."""
    found = record.load("load")
    rows = [
        ["calls", f"{found['calls']:,}"],
        *([f"{name} answers", str(found[name])] for name in ("wrong", "lost", "doubled")),
        ["refused calls", str(found["refused"])],
        ["answers that the gateway counted", f"{found['answers_counted_by_the_gateway']:,}"],
        ["longest time without an answer", f"{found['longest_stall']:.1f} s"],
        ["median, p99", f"{found['median_seconds']:.1f} s, {found['p99_seconds']:.1f} s"],
        *(
            [
                f"server killed after {kill['after_seconds']:.0f} s; up again after",
                f"{kill['up_again_after_seconds']:.0f} s",
            ]
            for kill in found["kills"]
        ),
    ]
    return _table([f"{found['callers']} callers, {found['seconds']:.0f} s", ""], rows)


def costs() -> str:
    """Return the times of imports, of starts and of cached scores."""
    found = record.load("costs")
    imports = [[f"`import {name}`", f"{of['ms']:.0f}"] for name, of in found["imports"].items()]
    starts = [
        [name, f"{of['cold']:.1f}", f"{of['warm']:.1f}"] for name, of in found["starts"].items()
    ]
    *_, without, with_ours = (set(of["packages"]) for of in found["imports"].values())
    more = ", ".join(sorted(with_ours - without)) or "none"
    cached = [[name, f"{ms:.1f}"] for name, ms in found["cached_ms"].items()]
    return "\n\n".join(
        [
            _table(["medians", "ms"], imports),
            f"Packages that `qwen3_reranker.langchain` loads beyond the line above: {more}.",
            _table(["seconds from the first import to the first score", "cold", "warm"], starts),
            _table(["64 documents, demo model", "ms"], cached),
        ]
    )


def growth() -> str:
    """Return seconds by size, and Reranker's speed as a share of the raw engine's."""
    rows = []
    for axis, by_mode in record.load("growth")["seconds"].items():
        for size, raw in by_mode["raw"].items():
            ours = by_mode["reranker"][size]
            rows.append([axis, size, f"{raw:.3f}", f"{ours:.3f}", f"{raw / ours:.2f}"])
    return _table(["varied", "value", "raw engine, s", "`Reranker`, s", "share"], rows)


def streamed() -> str:
    """Return seconds and memory of 100,000 documents, every 20,000."""
    rows = [
        [
            f"{sample['documents']:,}",
            *(f"{sample[key]:.0f}" for key in ("seconds", "client_mib", "engine_mib")),
        ]
        for sample in record.load("growth")["streamed"]
        if sample["documents"] % 20_000 == 0 or sample["documents"] == 5_000
    ]
    return _table(["documents", "seconds", "client MiB", "engine MiB"], rows)


def levers() -> str:
    """Return the raw engine's throughput after each change, relative to that before it."""
    rows = []
    for name, found in record.load("levers")["ratios"].items():
        low, share, high = statistics.quantiles(found)
        rows.append([name, f"{share:.2f}", f"{low:.2f} to {high:.2f}"])
    return _table(
        ["change to the raw engine", "relative throughput", "middle half of the runs"], rows
    )


def headlines() -> list[str]:
    """Return the sentences about speed in README."""
    rates, turns = record.load("embedded")["rates"], record.load("remote")["turns"]
    score, encoder, recipe, eights = (
        _times(rates, mode, "64", digits=1)
        for mode in ("llm_score", "cross_encoder", "recipe", "recipe_8")
    )
    shares = [_share(turns[f"ours@{n}"], turns[f"bare@{n}"]) for n in CONCURRENCIES]
    cohere, http = (
        _share(turns["ours@16"], turns[f"{peer}@16"])
        for peer in ("llama_index_cohere", "http_reranker")
    )
    embedded = (
        f"With 64 documents per query, it scores {score} times as many documents per second as "
        f"vLLM's own `LLM.score`, {encoder} times as many as sentence-transformers' CrossEncoder, "
        f"and {recipe} times as many as the model card's script in one batch ({eights} times in "
        "batches of eight)"
    )
    remote = (
        f"Against a vLLM server, it reaches {min(shares):.2f} to {max(shares):.2f} of the "
        "throughput of a bare httpx loop whose request bodies are encoded beforehand. With 16 "
        f"concurrent requests, that is {cohere:.1f} times the throughput of LlamaIndex's "
        f"CohereRerank and {http:.1f} times that of langchain-reranker's HttpReranker"
    )
    return [embedded, remote]


# The functions for each run. A run without saved results is not on the page.
_OF = {
    "embedded": (embedded,),
    "transformers": (transformers,),
    "limit": (limit,),
    "remote": (remote,),
    "gateway": (gateway,),
    "load": (load,),
    "costs": (costs,),
    "growth": (growth, streamed),
    "levers": (levers,),
}


def sections() -> dict[str, str]:
    """Return the generated parts of the page by name."""
    found: dict[str, str] = {}
    for run, parts in _OF.items():
        if record.exists(run):
            found |= {part.__name__: part() for part in parts} | {f"about {run}": about(run)}
    return found


def written(page: str) -> str:
    """Return the page with its generated parts up to date."""
    parts = sections()

    def section(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{parts[match[1]]}\n<!-- end -->"

    return re.sub(r"<!-- ([a-z ]+) -->\n.*?\n?<!-- end -->", section, page, flags=re.DOTALL)


def main() -> None:
    """Write the page and its plots."""
    from benchmarks import plots

    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    plots.draw(PAGE.with_suffix(""))
    print("\n".join(headlines()))


def _medians(rates: Rates) -> dict[str, dict[str, float]]:
    return {
        mode: {size: statistics.median(found) for size, found in by_size.items()}
        for mode, by_size in rates.items()
    }


def _times(rates: Rates, mode: str, size: str, digits: int = 2) -> str:
    """Return the median over the runs of Reranker's throughput divided by a contender's."""
    return f"{statistics.median(ratios(rates, 'reranker', mode, size)):.{digits}f}"


def _share(outcomes: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    """Return the median over the runs of one client's throughput divided by another's."""
    pairs = zip(outcomes, others, strict=True)
    return float(statistics.median(one["rate"] / other["rate"] for one, other in pairs))


def _median(outcomes: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(outcome[key] for outcome in outcomes))


def _p99(outcomes: list[dict[str, Any]]) -> float:
    return percentile_99([s for outcome in outcomes for s in outcome["latencies"]])


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
