"""The options for servers on the command line: every one that text can express, as declared."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from qwen3_reranker.cli.app import app, run
from qwen3_reranker.options import declared, entries
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions

from support.command_line import Call

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
DECLARED: dict[str, type] = {"doctor": ConnectionOptions, "rerank": ServerOptions}
# A value that cannot be used, for each option, and the flag if it has another name.
WRONG = {
    "api_key": "a b\u00e9",
    "dialect": "esperanto",
    "template": "both",
    "tokenizer": "/nowhere",
    "timeout": "-1",
    "headers": "no colon",
    "verify": "/nowhere.pem",
    "proxy": "gopher://host",
    "max_concurrency": "0",
    "max_retries": "-2",
    "on_unsupported": "cry",
}
FLAGS = {"headers": "--header"}


def options(command: str) -> dict[str, Any]:
    return {p.name: p for p in COMMANDS[command].params if p.param_type_name == "option"}


def flag(name: str) -> str:
    return FLAGS.get(name, "--" + name.replace("_", "-"))


@pytest.mark.parametrize("command", DECLARED)
def test_every_option_that_text_can_express_is_there(command: str) -> None:
    names = [name for name in declared(DECLARED[command]) if name != "http_client"]
    assert [name for name in options(command) if name in names] == names
    assert "http_client" not in options(command)
    for name in names:
        assert flag(name) in options(command)[name].opts


@pytest.mark.parametrize("command", DECLARED)
def test_the_help_is_the_beginning_of_the_declaration(command: str) -> None:
    texts = entries(ConnectionOptions) | entries(ServerOptions)
    for name, option in options(command).items():
        if name in texts:
            plain = texts[name].replace("`", "").replace('"', "")
            assert plain.startswith(option.help.replace("\\[", "[").partition(" Each is ")[0])
            assert option.help.endswith(".")


@pytest.mark.parametrize(
    ("command", "name"),
    [(command, name) for command in DECLARED for name in WRONG if name in options(command)],
)
def test_every_option_reaches_what_it_is_for(
    command: str,
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert WRONG.keys() | {"http_client"} == declared(ServerOptions).keys()
    documents = tmp_path / "documents.txt"
    documents.write_text("a document\n", "utf-8")
    url = "http://localhost:9"
    where = [url] if command == "doctor" else ["q", str(documents), "--base-url", url]
    monkeypatch.setattr(sys, "argv", ["qwen3-reranker", command, *where, flag(name), WRONG[name]])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert flag(name) in shown or (name == "api_key" and "Authorization" in shown), shown


ROWS = [{"query": query, "documents": ["a", "b"], "relevant": [0]} for query in "1234"]
# Commands that can start an engine; the playground imports gradio for seconds.
EMBEDDED = {
    "rerank": ("q", "{file}", "--field", "query"),
    "bench": ("--pairs", "{file}"),
    "bulk": ("{file}", "out"),
    "evaluate": ("{file}",),
    "tune": ("{file}", "{file}"),
    "gateway": ("--port", "0"),
    "playground": ("--port", "0"),
}
SLOW = {"playground": pytest.mark.slow}


@pytest.mark.parametrize("by", ["variable", "option"])
@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=SLOW.get(name, ())) for name in EMBEDDED]
)
def test_only_a_key_on_the_command_line_is_an_error_without_a_server(
    command: str, by: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "upstream-" if command == "gateway" else ""
    option, variable = f"--{prefix}api-key", f"QWEN3_RERANKER_{prefix}API_KEY"
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)), "utf-8")
    arguments = [argument.format(file="rows.jsonl") for argument in EMBEDDED[command]]
    key = [option, "k"] if by == "option" else []
    if by == "variable":
        monkeypatch.setenv(variable.replace("-", "_").upper(), "k")
    # No engine is to start.
    code, _, said = call(command, *arguments, "--devices", "0,0", *key)
    assert code == 2
    if by == "variable":
        assert "--devices 0,0" in said
    else:
        assert f"only a server can use {option}: give --base-url too" in said


@pytest.mark.parametrize(
    ("given", "read"), [("false", False), ("True", True), ("ca.pem", "ca.pem")]
)
def test_verify_is_read_as_a_decision_or_a_path(
    given: str, read: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def diagnose(_target: str, **settings: Any) -> None:
        seen.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("qwen3_reranker.doctor.diagnose", diagnose)
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr(sys, "argv", ["qwen3-reranker", "doctor", "http://h", "--verify", given])
    with pytest.raises(SystemExit):
        run()
    assert seen["verify"] == read
    assert "timeout" not in seen and "headers" not in seen  # what is not given is left out
