"""The commands `evaluate` and `tune`, as a shell runs them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker.evaluation import Report

from support.command_line import Call
from support.commands import check_interrupted, interrupted, run
from support.evaluation import write_beir, write_jsonl, write_trec
from support.helpers import SECRET
from support.scripted_server import HANG, Reply, Request, ScriptedServer, classify

pytestmark = pytest.mark.slow

CHINA = "What is the capital of China?"
ROWS = [
    {"query": CHINA, "documents": ["An apple.", "The capital of China: Beijing."], "relevant": [1]},
    {"query": "Explain gravity", "documents": ["Gravity attracts.", "An apple."], "grades": [2, 0]},
] * 4


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_jsonl(tmp_path / "hand.jsonl", ROWS))


def lowered(request: Request) -> Reply:
    """Return lower scores, as other weights do."""
    reply = classify(request)
    for item in reply.body["data"]:
        item["probs"] = [0.6 * score for score in item["probs"]]
    return reply


def documents(requests: list[Request]) -> int:
    return sum(len(request.body["input"]) for request in requests if request.path == "/classify")


def test_every_combination_is_compared(server: ScriptedServer, tmp_path: Path, data: str) -> None:
    (tmp_path / "more.txt").write_text("\nFind facts\n  Find fruit \n")
    cache, file = str(tmp_path / "scores"), tmp_path / "report.json"
    options = ["--base-url", server.url, "--depth", "1,2", "--cache", cache, "--json", str(file)]
    options += ["--instruction", "default", "--instruction", f"@{tmp_path / 'more.txt'}"]
    done = run("evaluate", data, *options, "--metric", "MRR@10", "--metric", "hit@1")
    report = json.loads(file.read_text("utf-8"))
    host = server.url.removeprefix("http://")
    assert [system["name"] for system in report["systems"]] == ["retriever"] + [
        f"{host}, {instruction}, depth {depth}"
        for instruction in ("default instruction", "instruction 1", "instruction 2")
        for depth in (1, 2)
    ]
    assert [system["instruction"] for system in report["systems"]][-2:] == ["Find fruit"] * 2
    assert report["metrics"] == ["MRR@10", "hit@1"]
    assert report["systems"][0]["metrics"] == {"MRR@10": 0.75, "hit@1": 0.5}
    assert report["systems"][2]["metrics"] == {"MRR@10": 1.0, "hit@1": 1.0}
    assert done.stdout.startswith("hand: 8 queries, 16 candidates (the given order)\n")
    assert "instruction 2: Find fruit" in done.stdout and "What to do:" in done.stdout
    assert done.stderr == ""


def test_the_report_is_written(server: ScriptedServer, tmp_path: Path, data: str) -> None:
    page, file = tmp_path / "report.html", tmp_path / "report.json"
    options = ("--base-url", server.url, "--cache", str(tmp_path / "scores"))
    run("evaluate", data, *options, "--report", str(page), "--json", str(file), "--depth", "1,2")
    Report.load(file).save(tmp_path / "again.html")
    assert page.read_text("utf-8") == (tmp_path / "again.html").read_text("utf-8")
    assert f"--base-url {server.url} " in page.read_text("utf-8")


def test_the_json_is_written_if_the_page_cannot_be(
    server: ScriptedServer,
    tmp_path: Path,
    data: str,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Report) -> str:
        raise RuntimeError("cannot be drawn")

    monkeypatch.setattr("qwen3_reranker.evaluation.report_page.report_page", fail)
    page, file = tmp_path / "report.html", tmp_path / "report.json"
    options = ("--base-url", server.url, "--cache", str(tmp_path / "scores"))
    code, _, errors = call("evaluate", data, *options, "--report", str(page), "--json", str(file))
    assert code != 0 and "cannot be drawn" in errors
    assert Report.load(file).systems
    assert not page.exists()


def test_a_second_run_uses_the_stored_scores(
    server: ScriptedServer, tmp_path: Path, data: str
) -> None:
    options = ("--base-url", server.url, "--cache", str(tmp_path / "scores"))
    first = run("evaluate", data, *options)
    # Equal pairs are scored once, so four; the others are the two questions of the probe.
    asked = documents(server.asked())
    second = run("evaluate", data, *options)
    assert first.stdout == second.stdout
    # So few scores are all compared.
    assert documents(server.asked()) == 2 * asked


def test_scores_of_other_weights_are_refused(
    server: ScriptedServer, tmp_path: Path, data: str
) -> None:
    cache = tmp_path / "scores"
    options = ("--base-url", server.url, "--cache", str(cache))
    run("evaluate", data, *options)
    server.always(lowered)
    done = run("evaluate", data, *options, code=2)
    assert f"error: --cache {cache} has scores of other weights than " in done.stderr


def test_the_key_is_sent_and_not_shown(server: ScriptedServer, tmp_path: Path, data: str) -> None:
    file = tmp_path / "report.json"
    options = ("--base-url", server.url, "--cache", str(tmp_path / "scores"), "--json", str(file))
    done = run("evaluate", data, *options, "--api-key", SECRET, "--header", f"X-Key: {SECRET}")
    scored = [request for request in server.asked() if request.path == "/classify"]
    for request in scored:
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        assert request.headers["x-key"] == SECRET
    assert scored and SECRET not in done.stdout + done.stderr + file.read_text("utf-8")


def test_a_model_may_have_a_server_of_its_own(
    server: ScriptedServer, tmp_path: Path, data: str
) -> None:
    file = tmp_path / "report.json"
    with ScriptedServer() as other:
        options = ["--model", f"@{server.url},{other.url}", "--model", f"@{other.url}"]
        options += ["--cache", str(tmp_path / "scores"), "--json", str(file), "--depth", "1, all"]
        run("evaluate", data, *options)
        assert documents(server.asked()) + documents(other.asked()) > 8
        hosts = [url.removeprefix("http://") for url in (server.url, other.url)]
        urls = [[server.url, other.url], [other.url]]
    systems = json.loads(file.read_text("utf-8"))["systems"][1:]
    names = [", ".join(hosts), hosts[1]]
    assert [system["name"] for system in systems] == [
        f"{name}, depth {depth}" for name in names for depth in ("1", "all")
    ]
    assert [system["base_url"] for system in systems] == [urls[0], urls[0], urls[1], urls[1]]
    assert [system["reranker"] for system in systems] == [0, 0, 1, 1]


def test_an_engine_is_compared_with_a_server(
    server: ScriptedServer, tmp_path: Path, data: str
) -> None:
    """Each of them gets only the options that it can use."""
    file = tmp_path / "report.json"
    options = ["--model", "demo", "--engine", "transformers", "--model", f"@{server.url}"]
    options += ["--api-key", SECRET, "--dialect", "vllm-classify", "--timeout", "50"]
    run("evaluate", data, *options, "--cache", str(tmp_path / "scores"), "--json", str(file))
    scored = [request for request in server.asked() if request.path == "/classify"]
    assert scored
    assert {request.headers["authorization"] for request in scored} == {f"Bearer {SECRET}"}
    systems = json.loads(file.read_text("utf-8"))["systems"][1:]
    assert [(system["model"], system["base_url"]) for system in systems] == [
        ("demo", []),
        (None, [server.url]),
    ]


@pytest.mark.parametrize("form", ["beir", "trec", "trec with another run"])
def test_folders(server: ScriptedServer, tmp_path: Path, form: str) -> None:
    folder = write_beir(tmp_path / "data") if form == "beir" else write_trec(tmp_path / "data")
    options = ["--base-url", server.url, "--cache", str(tmp_path / "scores")]
    if "another" in form:
        run_file = tmp_path / "other.run"
        run_file.write_text("q2 Q0 sleep 1 1.0 x\n")
        options += ["--run", str(run_file)]
    first = run("evaluate", str(folder), *options).stdout.splitlines()[0]
    assert (
        first
        == {
            "beir": "data: 2 queries, 3 candidates (BM25)",
            "trec": "data: 2 queries, 5 candidates (run.trec)",
            "trec with another run": "data: 2 queries, 1 candidate (other.run); 1 query has no "
            "candidate (0 in every metric)",
        }[form]
    )


def test_tune_chooses_an_instruction(server: ScriptedServer, tmp_path: Path, data: str) -> None:
    (tmp_path / "instructions.txt").write_text("Find facts\nFind fruit\n")
    file = tmp_path / "report.json"
    options = ("--base-url", server.url, "--cache", str(tmp_path / "scores"), "--metric", "hit@1")
    done = run("tune", data, str(tmp_path / "instructions.txt"), *options, "--json", str(file))
    assert done.stdout.splitlines()[0].split() == ["hit@1", "on", "4", "queries"]
    assert "default instruction" in done.stdout and "Find facts" in done.stdout
    assert "No instruction was better than the default one." in done.stdout
    assert json.loads(file.read_text("utf-8"))["dataset"]["queries"] == 4


@pytest.mark.parametrize(("options", "message"), [
    (("none.jsonl",), "none.jsonl does not exist"),
    (("{data}", "--depth", "ten"), "--depth ten: give whole numbers or all, with commas"),
    (("{data}", "--depth", "0"), "--depth 0: give a whole number"),
    (("{data}", "--max-length", "all"), "--max-length all: give whole numbers or default, with"),
    (("{data}", "--eager"), "only an embedded engine can use --eager"),
    (("{data}", "--metric", "MAP"), "metric 'MAP' is not known: give one of nDCG@K"),
    (("{data}", "--min-grade", "3"), "hand has no query with a document of grade 3 or more"),
    (("{data}", "--precision", "80"), "--precision 80.0: give a share in (0, 1]"),
    (("{data}", "--json", "report.html"), "--json report.html: give a name that ends in .json"),
    (("{data}", "--json", "none/report.json"), "in a folder that exists"),
    (("{data}", "--json", "{folder}"), "--json {folder} is a folder: give a file"),
    (("{data}", "--report", "report.pdf"), "--report report.pdf: give a name that ends in .html"),
    (("{data}", "--report", "none/report.html"), "in a folder that exists"),
    (("{data}", "--instruction", "@none.txt"), "none.txt cannot be read as a file of instructions"),
    (("{data}", "--run", "a.run"), "--run a.run belongs to a folder"),
    (("{data}", "--cache", "{data}"), "--cache {data} cannot be used as a file of scores"),
])  # fmt: skip
def test_wrong_usage_is_said_before_a_server_is_asked(
    server: ScriptedServer, tmp_path: Path, data: str, options: tuple[str, ...], message: str
) -> None:
    names = {"data": data, "folder": str(tmp_path / "folder.json")}
    (tmp_path / "folder.json").mkdir()
    given = [option.format(**names) for option in options]
    done = run("evaluate", *given, "--base-url", server.url, code=2)
    assert done.stderr.startswith("error: ") and message.format(**names) in done.stderr
    assert done.stderr.count("\n") == 1 and server.asked() == []


def test_ctrl_c_ends_it_and_a_later_run_goes_on(server: ScriptedServer, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "query": f"Explain gravity {n}",
            "documents": ["Gravity attracts.", f"Apple {n}."],
            "relevant": [0],
        }
        for n in range(60)
    ]
    data, cache = write_jsonl(tmp_path / "data.jsonl", rows), str(tmp_path / "scores")
    server.always(lambda request: classify(request) if len(server.asked()) < 50 else HANG)
    command = ("evaluate", str(data), "--base-url", server.url, "--cache", cache)

    def stored() -> int:
        """Return how many scores are in the file, after the last answer has been asked for."""
        if len(server.asked()) < 50:
            return 0
        with closing(sqlite3.connect(f"file:{cache}?mode=ro", uri=True)) as scores:
            [count] = scores.execute("SELECT count(*) FROM scores").fetchone()
        return int(count)

    check_interrupted(*interrupted("-m", "qwen3_reranker", *command, when=lambda: stored() > 60))
    server.always(classify)
    before, missing = documents(server.asked()), 120 - stored()
    done = run(*command)
    assert "60 queries, 120 candidates" in done.stdout
    # Besides the missing ones, it scores those of the detection, and 30 at most to compare them.
    assert documents(server.asked()) - before <= missing + 6 + 30
    assert missing + 6 + 30 < 120
