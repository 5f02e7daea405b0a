"""The command `bench`, against a scripted server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from qwen3_reranker.bench import BenchResult

from support.command_line import Call
from support.scripted_server import HANG, Reply, Request, ScriptedServer, classify

COMMAND = (sys.executable, "-m", "qwen3_reranker", "bench")
Bench = Callable[..., tuple[str, str]]
SMALL = ("--documents", "3", "--tokens", "8")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def bench(call: Call) -> Bench:
    def bench(*arguments: str, code: int = 0) -> tuple[str, str]:
        ended, output, errors = call("bench", *arguments)
        assert ended == code, errors
        return output, errors

    return bench


def rows(output: str) -> dict[str, str]:
    """Return the values of a table by their labels."""
    lines = [line.rsplit(maxsplit=1) for line in output.splitlines()]
    return {line[0].strip(): line[1] for line in lines if len(line) == 2}


def test_a_closed_loop_and_its_files(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    enough = threading.Event()

    def wait_for_40(request: Request) -> Reply:
        if server.open_connections >= 40:  # more than the 32 that a client has by default
            enough.set()
        held = enough if len(request.body["input"]) == 5 else None  # not while it is detected
        return replace(classify(request), hold=held)

    server.always(wait_for_40)
    file, plot = tmp_path / "result.json", tmp_path / "latency.svg"
    output, errors = bench(
        *("--base-url", server.url, "--tokenizer", "demo", "--concurrency", "40"),
        *("--requests", "60", "--documents", "5", "--tokens", "8"),
        *("--json", str(file), "--plot", str(plot)),
    )
    assert errors == ""
    table = rows(output)
    assert table["Successful requests"] == "60"
    assert table["Maximum request concurrency"] == table["Peak concurrent requests"] == "40"
    assert server.most == 40
    result = json.loads(file.read_text("utf-8"))
    assert (result["successful"], result["failed"], result["total_documents"]) == (60, 0, 300)
    assert result["settings"]["tokens"] == 8
    assert "dialect vllm-classify" in result["environment"]["backend"]
    assert ET.parse(plot).getroot().tag.endswith("svg")
    # The warm-up has 40 requests.
    sent = [request.body["input"] for request in server.asked()][-100:]
    assert [len(prompts) for prompts in sent] == [5] * 100
    assert len({tuple(prompt) for prompts in sent for prompt in prompts}) == 500


def test_an_open_loop(bench: Bench, server: ScriptedServer) -> None:
    output, _ = bench("--base-url", server.url, "--rate", "100", "--seconds", "0.3", *SMALL)
    table = rows(output)
    assert table["Successful requests"] == "30"
    assert table["Request rate configured (RPS)"] == "100.00"
    assert "Maximum request concurrency" not in table


def test_own_documents_and_own_requests(
    bench: Bench, server: ScriptedServer, tmp_path: Path
) -> None:
    few = ("--base-url", server.url, "--concurrency", "1", "--requests", "2")
    documents = tmp_path / "documents.txt"
    documents.write_text("one\ntwo\nthree\n", "utf-8")
    bench(*few, "--file", str(documents), "--documents", "2")
    [*_, request] = server.asked()
    assert len(request.body["input"]) == 2
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"query": f"q{i}", "documents": ["a", "b"], "relevant": [0]} for i in range(4)]
    pairs.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    table = rows(bench(*few, "--pairs", str(pairs))[0])
    assert table["Total documents"] == "4"
    assert "Times each request was sent" not in table
    again = rows(bench(*few[:-1], "6", "--pairs", str(pairs))[0])
    assert again["Times each request was sent"] == "1.5"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": "q"}', "line 2 has no list of strings under 'documents'"),
        ('{"query": "q", "documents": "a"}', "line 2 has no list of strings under 'documents'"),
        ('{"query": " ", "documents": ["a"]}', "line 2 has a blank query"),
        ('{"documents": ["a"]}', "line 2 has no text under 'query'"),
        ("{oops", "line 2 is not JSON"),
    ],
)
def test_a_bad_line_is_named(bench: Bench, tmp_path: Path, line: str, message: str) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"query": "q", "documents": ["a"]}\n' + line, "utf-8")
    _, errors = bench("--base-url", "http://x", "--pairs", str(pairs), code=2)
    assert errors.startswith(f"error: {pairs}, {message}")


def test_failures_are_shown(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    load = ("--base-url", server.url, "--requests", "8", *SMALL, "--json", str(file))
    bench(*load)
    # The warm-up is as large as the measurement.
    answers = [classify] * 3 + [Reply({"error": {"message": "no such luck"}}, 400)] * 5
    before = len(server.asked())
    detection = before - 16 - 8
    server.first(*[classify] * (detection + 16), *answers)
    output, errors = bench(*load)
    table = rows(output)
    assert (table["Successful requests"], table["Failed requests"]) == ("3", "5")
    assert table["ServerError"] == "5"
    assert "5 failed with ServerError, first: " in errors
    assert "no such luck" in errors
    assert json.loads(file.read_text("utf-8"))["errors"]["ServerError"]["count"] == 5


def test_a_test_without_a_success_fails(
    bench: Bench, server: ScriptedServer, tmp_path: Path
) -> None:
    bench("--base-url", server.url, "--requests", "1", *SMALL)
    detection = len(server.asked()) - 16 - 1
    refusal = Reply({"error": {"message": "no such luck"}}, 400)
    server.first(*[classify] * detection)
    server.always(refusal)
    file, plot = tmp_path / "a.json", tmp_path / "a.svg"
    output, errors = bench(
        *("--base-url", server.url, "--requests", "2", *SMALL),
        *("--json", str(file), "--plot", str(plot)),
        code=3,
    )
    assert rows(output)["Failed requests"] == "2"
    assert f"{plot} was not drawn: no request was successful" in errors
    assert BenchResult.load(file).failed == 2
    assert not plot.exists()


def test_a_server_that_is_down_is_an_error(bench: Bench) -> None:
    output, errors = bench(
        "--base-url", "http://127.0.0.1:9", "--max-retries", "0", "--seconds", "1", code=3
    )
    assert output == ""
    assert errors.startswith("error: no connection to http://127.0.0.1:9")


def test_ctrl_c_shows_what_was_measured(server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    server.always(lambda request: classify(request) if len(server.asked()) < 60 else HANG)
    process = subprocess.Popen(
        [*COMMAND, "--base-url", server.url, "--concurrency", "4", *SMALL, "--json", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(server.asked()) < 63:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "interrupted\n"
    table = rows(output)
    assert 0 < int(table["Successful requests"]) < 60
    assert table["Unfinished requests"] == "4"
    assert str(BenchResult.load(file).successful) == table["Successful requests"]


def test_results_are_compared(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    for file, requests in ((a, "4"), (b, "8")):
        bench("--base-url", server.url, "--requests", requests, *SMALL, "--json", file)
    output, _ = bench("--compare", a, b)
    lines = {line.strip() for line in output.splitlines()}
    assert any(line.split() == ["Successful", "requests", "4", "8", "2.00"] for line in lines)
    assert "requests: 4 -> 8" in lines
    for arguments, message in [
        ((a, b, "--rate", "3"), "--compare cannot be combined with --rate"),
        ((a, str(tmp_path / "c.json")), f"{tmp_path / 'c.json'} cannot be read: No such file"),
    ]:
        _, errors = bench("--compare", *arguments, code=2)
        assert errors.startswith(f"error: {message}")


def test_the_names_of_files_are_no_markup(
    bench: Bench, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("[red]a[/red].json", "[/b].json")
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        bench("--base-url", server.url, "--requests", "2", *SMALL, "--json", name)
    output, _ = bench("--compare", *names)
    assert all(name in output for name in names)


def test_the_options_that_were_given_are_recorded(
    bench: Bench, server: ScriptedServer, tmp_path: Path
) -> None:
    """All that can make two tests differ, but no secret."""
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    load = ("--base-url", server.url, "--tokenizer", "demo", "--requests", "2", *SMALL)
    secret = ("--api-key", "sk-hidden", "--header", "X-Team: hidden")
    bench(*load, *secret, "--json", str(a))
    bench(
        *(*load, "--max-concurrency", "8", "--max-retries", "0", "--max-length", "400"),
        *("--instruction", "Find the recipe", "--long-documents", "passages"),
        *("--passage-tokens", "100", "--json", str(b)),
    )
    assert "hidden" not in a.read_text("utf-8")
    settings = BenchResult.load(b).settings
    assert settings["max_retries"] == 0
    assert settings["instruction"] == "Find the recipe"
    output, _ = bench("--compare", str(a), str(b))
    notes = output.partition("The tests differ, so compare with care:\n")[2]
    settings_that_differ = notes.partition("What was measured differs:\n")[0]
    assert sorted(line.strip() for line in settings_that_differ.splitlines()) == [
        "instruction: None -> Find the recipe",
        "long_documents: None -> passages",
        "max_concurrency: 32 -> 8",
        "max_length: None -> 400",
        "max_retries: None -> 0",
        "passage_tokens: None -> 100",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rate", "3", "--concurrency", "3"), "--concurrency 3 and --rate 3.0 exclude each"),
        (("--rate", "0"), "--rate 0.0: give a number above 0"),
        (("--json", "/none/a.json"), "--json /none/a.json: give a file in a folder that exists"),
        (("--json", "/"), "--json / is a folder: give a file"),
        (("--plot", "/none/a.svg"), "--plot /none/a.svg: give a file in a folder that exists"),
        (("--plot", "a.png"), "--plot a.png: give a name that ends in .svg"),
        (("--file", "/none.txt"), "/none.txt cannot be read"),
    ],
)
def test_wrong_usage(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    _, errors = bench("--base-url", "http://x", *arguments, code=2)
    assert errors.startswith(f"error: {message}"), errors
