"""The command, as a shell runs it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import run
from support.scripted_server import ScriptedServer
from support.servers.processes import free_port

pytestmark = pytest.mark.slow

QUERY = "What is the capital of China?"
TEXTS = ["Gravity pulls [bold]bodies[/bold].", "The capital of China is Beijing.", "An apple."]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ScriptedServer() as server:
        yield server.url


@pytest.mark.parametrize("kind", ["txt", "jsonl", "-"])
def test_rerank_shows_the_best_first(url: str, tmp_path: Path, kind: str) -> None:
    rows = TEXTS if kind == "txt" else [json.dumps({"text": text, "id": text[0]}) for text in TEXTS]
    file = tmp_path / f"documents.{kind}"
    file.write_text("\n".join(rows), "utf-8")
    where = ["-"] if kind == "-" else [str(file)]
    stdin = "\n".join(rows) if kind == "-" else ""
    table = run("rerank", QUERY, *where, "--base-url", url, stdin=stdin).stdout
    assert TEXTS[0] in table  # not read as markup
    lines = [line for line in table.splitlines() if any(text in line for text in TEXTS)]
    assert "Beijing" in lines[0] and len(lines) == 3
    best = run("rerank", QUERY, *where, "--base-url", url, "--json", "--top-n", "1", stdin=stdin)
    [row] = [json.loads(line) for line in best.stdout.splitlines()]
    assert (row["line"], row["truncated"]) == (2, False)
    assert row["score"] == pytest.approx(1 / (1 + math.exp(-row["logit"])))
    assert row["document"]["text"] == TEXTS[1] and 0.5 < row["score"] <= 1
    assert ("id" in row["document"]) == (kind != "txt")


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_results_can_be_written_in_any_encoding(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """On Windows, output that is redirected has the encoding of the system's code page."""
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    text = "Löwe, 光合作用, 🙂"
    file = tmp_path / "documents.txt"
    file.write_text(text, "utf-8")
    ask = ("rerank", QUERY, str(file), "--base-url", url)
    [row] = run(*ask, "--json").stdout.splitlines()
    assert json.loads(row)["document"]["text"] == text
    table = run(*ask, encoding=encoding).stdout
    assert text.encode(encoding, "backslashreplace").decode(encoding) in table


def test_rerank_shows_the_passage_that_decided(url: str, tmp_path: Path) -> None:
    filler = " ".join(f"Sentence {n} is about an apple." for n in range(200))
    text = f"{filler} {TEXTS[1]} This is the end."
    file = tmp_path / "documents.txt"
    file.write_text(f"{TEXTS[2]}\n{text}\n", "utf-8")
    passages = ["--long-documents", "passages", "--passage-tokens", "64", "--tokenizer", "demo"]
    call = ["rerank", QUERY, str(file), "--base-url", url, *passages]
    table = " ".join(run(*call).stdout.split())
    assert TEXTS[1] in table
    assert "Sentence 0 is" not in table
    row = json.loads(run(*call, "--json", "--top-n", "1").stdout)
    passage = row["passage"]
    assert TEXTS[1] in text[passage["start"] : passage["end"]]
    assert passage["score"] == row["score"]
    assert passage["count"] > 10
    wrong = run("rerank", QUERY, str(file), "--base-url", url, "--max-passages", "2", code=2)
    assert "--long-documents passages" in wrong.stderr


def test_the_table_shows_the_beginning_of_a_document_that_was_cut(url: str, tmp_path: Path) -> None:
    filler = " ".join(f"Sentence {n} is about an apple." for n in range(200))
    file = tmp_path / "documents.txt"
    file.write_text(f"{filler} {TEXTS[1]}\n", "utf-8")
    passages = ["--long-documents", "passages", "--passage-tokens", "64", "--tokenizer", "demo"]
    budget = ["--token-budget", "20", "--cut-last"]
    call = ["rerank", QUERY, str(file), "--base-url", url, *passages, *budget]
    assert "Sentence 0 is about an apple." in run(*call).stdout
    row = json.loads(run(*call, "--json").stdout)
    assert row["cut"] is True
    assert row["document"]["text"].startswith(row["text"])
    assert row["passage"]["start"] > len(row["text"])


def test_the_table_says_which_documents_were_truncated(url: str, tmp_path: Path) -> None:
    file = tmp_path / "documents.jsonl"
    rows = [TEXTS[1], f"{TEXTS[1]} {'Yes. ' * 100}", " "]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    options = ["--base-url", url, "--tokenizer", "demo", "--max-length", "110"]
    table = run("rerank", QUERY, str(file), *options).stdout
    assert table.split()[:4] == ["P(yes)", "line", "truncated", "document"]
    marks = re.findall(r"^ *\d +\d\.\d{4} +(\d) +(yes)?", table, re.MULTILINE)
    assert sorted(marks) == [("1", ""), ("2", "yes"), ("3", "")]
    assert "truncated" not in run("rerank", QUERY, str(file), *options[:4]).stdout
    shown = run("rerank", QUERY, str(file), *options, "--json").stdout.splitlines()
    blank = json.loads(shown[-1])
    assert (blank["score"], blank["logit"], blank["truncated"]) == (0.0, None, False)


def test_an_error_is_a_message_and_code_2(tmp_path: Path) -> None:
    missing = run("rerank", "q", str(tmp_path / "none.txt"), "--base-url", "http://x", code=2)
    assert missing.stderr.startswith("error: ") and "cannot be read" in missing.stderr
    assert "Traceback" not in missing.stderr
    (tmp_path / "a.jsonl").write_text("{oops\n", "utf-8")
    broken = run("rerank", "q", str(tmp_path / "a.jsonl"), "--base-url", "http://x", code=2)
    assert "line 1 is not JSON" in broken.stderr


def test_convert_and_verify(tmp_path: Path) -> None:
    target = tmp_path / "converted"
    done = run("convert", "demo", str(target), "--labels", "2", "--for", "sglang", "--verify")
    assert "2 label(s)" in done.stderr and "largest difference" in done.stdout
    assert json.loads((target / "config.json").read_text("utf-8"))["num_labels"] == 2
    again = run("convert", "demo", str(target), code=2)
    assert again.stderr.startswith("error: ")


def test_convert_quantizes_and_verifies(tmp_path: Path) -> None:
    target = tmp_path / "converted"
    done = run("convert", "demo", str(target), "--quantize", "int8", "--verify")
    assert "1 quantized to int8" in done.stderr and "tolerance: 0.15" in done.stdout
    config = json.loads((target / "config.json").read_text("utf-8"))
    assert config["quantization_config"]["format"] == "int-quantized"
    wrong = run("convert", "demo", str(tmp_path / "other"), "--quantize", "int4", code=2)
    assert "int4" in wrong.stderr and not (tmp_path / "other").exists()


def test_serve_prints_how_to_start_it() -> None:
    name = "Qwen/Qwen3-Reranker-0.6B"
    shell = run(
        "serve", name, "--print", "shell", "--version", "0.32.0", "--", "--seed", "7"
    ).stdout
    assert "--runner pooling" in shell and "--seed 7" in shell and "# " in shell
    compose = run("serve", name, "--print", "compose", "--engine", "sglang").stdout
    assert "healthcheck:" in compose and "restart: unless-stopped" in compose
    old = run("serve", name, "--print", "shell", "--version", "0.1.0", code=3)
    assert old.stderr.startswith("error: ") and "0.1.0" in old.stderr


def test_convert_for_sglang_means_two_labels(tmp_path: Path) -> None:
    done = run("convert", "demo", str(tmp_path / "two"), "--for", "sglang")
    assert "2 label(s)" in done.stderr
    one = run("convert", "demo", str(tmp_path / "one"), "--for", "sglang", "--labels", "1", code=2)
    assert one.stderr.startswith("error: ") and one.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_what_convert_cannot_do_is_said_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    blocked = run("convert", "demo", str(tmp_path / "file/target"), code=2)
    assert blocked.stderr.startswith("error: ") and blocked.stderr.count("\n") == 1
    # A place without torch.
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    unverified = run("convert", "demo", str(tmp_path / "target"), "--verify", code=3)
    assert "no torch here" in unverified.stderr and unverified.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        *("file", "torch.py"),
    ]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("template", ["server", "client"])
def test_serve_prints_it_for_another_machine(device: str, template: str) -> None:
    asked = ["serve", "Qwen/Qwen3-Reranker-0.6B", "--version", "0.33.0"]
    asked += ["--device", device, "--template", template, "--print"]
    compose, shell = run(*asked, "compose").stdout, run(*asked, "shell").stdout
    image = "vllm-cpu-release-repo" if device == "cpu" else "vllm/vllm-openai"
    assert f"{image}:v0.33.0" in compose
    assert ("--device cpu" in shell or "--enforce-eager" in shell) == (device == "cpu")
    for written in (compose, shell):
        assert ("default_instruction" in written) == (template == "server")
        assert ("--gpu-memory-utilization: not set" in written) == (device == "gpu")


@pytest.mark.servers
@pytest.mark.parametrize("options", [(), ("--quiet",), ("--log-file", "{log}")])
def test_serve_hides_the_engines_output_if_it_is_told_to(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    log = tmp_path / "log"
    log.write_text("before\n", "utf-8")
    asked = [option.format(log=log) for option in options]
    # vLLM ends at once: it has no such option.
    done = run(
        "serve", "demo", "--port", str(free_port()), *asked, "--", "--no-such-option", code=3
    )
    said = "unrecognized arguments: --no-such-option"
    # Its end is in the error in any case.
    assert done.stderr.count(said) == (1 if options else 2)
    assert said in done.stderr[done.stderr.index("error: vllm") :]
    assert log.read_text("utf-8").startswith("before\n")
    assert (said in log.read_text("utf-8")) == ("--log-file" in options)


def test_serve_wants_a_log_file_that_can_be_written(tmp_path: Path) -> None:
    done = run("serve", "demo", "--log-file", str(tmp_path), code=2)
    assert (
        done.stderr
        == f"error: --log-file {tmp_path}: Is a directory: give a file that can be written\n"
    )


@pytest.mark.parametrize(
    "arguments",
    ["doctor {url}", "doctor {url} --json", "serve demo --print dockerfile"],
)
@pytest.mark.parametrize("closed", ["stdout", "stdout and stderr"])
def test_a_closed_pipe_is_no_finding(url: str, arguments: str, closed: str) -> None:
    """As `head` closes it, when it has seen enough."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "qwen3_reranker", *arguments.format(url=url).split()]
    try:
        errors = subprocess.PIPE if closed == "stdout" else writer
        done = subprocess.run(command, stdout=writer, stderr=errors, timeout=200, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr or b"") == (141, b"")


def test_the_doctors_exit_code(url: str) -> None:
    # Of a server that is right, and of one that is not there.
    report = json.loads(run("doctor", url, "--json").stdout)
    assert report["healthy"] and report["target"] == url
    missing = run("doctor", "http://127.0.0.1:9", code=1)
    assert "unreachable" in missing.stdout and "Traceback" not in missing.stderr
