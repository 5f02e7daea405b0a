"""What the command prints: options in place of Python arguments, escaped text, and exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest
import typer

from qwen3_reranker import __version__
from qwen3_reranker.cli.app import Command, app
from qwen3_reranker.cli.flags import flags_of, with_flags
from qwen3_reranker.convert.conversion import Engine
from qwen3_reranker.convert.quantize import NumberFormat
from qwen3_reranker.embedded.engine_settings import EngineChoice
from qwen3_reranker.errors import InputError
from qwen3_reranker.problems import CLIENT_WRITES, PROBLEMS
from qwen3_reranker.serve.engines import ENGINES, EngineName
from qwen3_reranker.serve.options import Device, Kind, Template
from qwen3_reranker.terminal import escape_control, escape_json

from support.command_line import Call
from support.doctor_servers import rerank, vllm
from support.scripted_server import Reply, ScriptedServer

QUERY = "What is the capital of China?"
# Clears the screen, sets the title, and turns the writing direction around.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eBeijing is the capital of China\r"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def flags(name: str) -> dict[str, str]:
    group = typer.main.get_command(app)
    parent = typer.Context(group)
    return flags_of(typer.Context(group.commands[name], parent=parent))  # type: ignore[attr-defined]


def visible(text: str) -> bool:
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_word_of_every_option(call: Call, name: str) -> None:
    code, shown, _ = call(name, "--help")
    assert code == 0
    words = set(re.findall(r"\S+", shown.replace("│", " ")))
    command = COMMANDS[name]
    texts = [parameter.help.replace("\\[", "[") for parameter in command.params if parameter.help]
    assert command.help
    for text in (*texts, command.help):
        assert set(text.split()) <= words, text


def test_help_and_version(call: Call) -> None:
    assert call("--version") == (0, f"qwen3-reranker {__version__}\n", "")
    code, shown, _ = call("--help")
    assert code == 0
    assert "Exit codes: 0 success; 1 " in shown
    assert "--install-completion" in shown


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("convert", "engine", Engine),
        ("convert", "quantize", NumberFormat),
        ("rerank", "engine", EngineChoice),
        ("serve", "engine", EngineName),
        ("serve", "device", Device),
        ("serve", "kind", Kind),
        ("serve", "template", Template),
    ],
)
def test_an_option_has_the_choices_of_the_function(command: str, option: str, choices: Any) -> None:
    hint = get_type_hints(COMMANDS[command].callback)[option]
    assert choices in (hint, *get_args(hint))  # alone, or beside None


def test_the_help_names_the_variables_of_all_engines() -> None:
    [parameter] = [p for p in COMMANDS["serve"].params if p.name == "api_key_variable"]
    assert all(engine.key_variable in parameter.help for engine in ENGINES.values())


def test_help_keeps_what_looks_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    def command(labels: Annotated[str, typer.Option(help="2: [no, yes]; [bold]")] = "") -> None:
        """Do nothing."""

    small = typer.Typer(rich_markup_mode="rich")
    small.command(cls=Command)(command)
    with pytest.raises(SystemExit):
        small(["--help"])
    assert "2: [no, yes]; [bold]" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_options_and_dialects(shell: str) -> None:
    line = "qwen3-reranker rerank --dialect vllm-"
    asked = {
        "COMP_WORDS": line,
        "COMP_CWORD": "3",  # bash
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",  # the others
    }
    environment = {**os.environ, **asked, "_QWEN3_RERANKER_COMPLETE": f"complete_{shell}"}
    code = "import sys; sys.argv[0] = 'qwen3-reranker'; from qwen3_reranker.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "vllm-classify" in found.stdout, found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-url", "localhost:9"], "--base-url localhost:9: give a URL with its scheme"),
        (["--dialect", "tei"], "only a server can use --dialect: give --base-url too"),
        (["--base-url", "http://u:p@x"], "give --api-key, or --header 'Authorization: ...'"),
        (["--base-url", "http://x", "--eager"], "only an embedded engine can use --eager"),
        (["--base-url", "http://x", "--no-check"], "only an embedded engine can use --no-check"),
        (
            ["--base-url", "http://x", "--engine", "vllm"],
            "only an embedded engine can use --engine",
        ),
        (["--engine-python", "/no/python"], "--engine-python /no/python is not a program"),
        (["--base-url", "http://x", "--dialect", "acme"], "--dialect acme: give one of auto"),
        (["--base-url", "http://x", "--timeout", "0"], "--timeout 0.0: give a number of seconds"),
        (["--base-url", "http://x", "--max-length", "0"], "--max-length 0: give a number of"),
        (["--base-url", "http://x", "--min-score", "2"], "--min-score 2.0: scores are"),
        (["--base-url", "http://x", "--tokenizer", "/no"], "--tokenizer /no is not a tokenizer"),
        (["--base-url", "http://x", "--header", "nocolon"], "--header needs the form"),
        (["--base-url", "http://x", "--field", "body"], "no text under 'body'; .* give --field"),
    ],
)
def test_errors_name_options(
    call: Call, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n', "utf-8")
    code, shown, said = call("rerank", QUERY, str(tmp_path / "a.jsonl"), *arguments)
    assert (code, shown) == (2, "")
    assert re.search(message, said), said
    assert said.startswith("error: ") and said.count("\n") == 1


def test_an_error_in_a_file_names_it_its_line_and_the_way_out(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{oops\n', "utf-8")
    code, _, said = call("rerank", QUERY, str(tmp_path / "a.jsonl"), "--base-url", "http://x")
    assert code == 2
    assert "a.jsonl, line 2 is not JSON" in said
    assert "For plain text give --format txt" in said


@pytest.mark.parametrize("name", ["rerank", "doctor"])
def test_advice_has_an_option_for_all_that_it_names(name: str) -> None:
    for advice in (*(known.advice for known in PROBLEMS.values()), CLIENT_WRITES):
        told = with_flags(advice, flags(name))
        assert not re.search(r"\b[a-z_]+=(?!\w)", told), told
        assert not re.search(r"\b(template|tokenizer|max_length|api_key|dialect)=", told), told
    assert "(--template client)" in with_flags(CLIENT_WRITES, flags(name))


def test_what_others_write_is_not_taken_for_an_argument() -> None:
    said = "type=float_type, model=Qwen3 a.timeout=3 --timeout=3 max_timeout=3"
    assert with_flags(said, flags("rerank")) == said
    assert with_flags("engine_args={'a': 1}: top_n=0, model=", flags("rerank")) == (
        "--eager: --top-n 0, --model"
    )
    assert with_flags("engine='sglang'", flags("convert")) == "--for sglang"


@pytest.mark.parametrize("name", ["rerank", "doctor", "install-engine"])
def test_what_an_engine_is_told_has_an_option(name: str) -> None:
    said = "check=False or engine='transformers', engine_python='/opt/vllm/bin/python'; check=True"
    assert with_flags(said, flags(name)) == (
        "--no-check or --engine transformers, --engine-python /opt/vllm/bin/python; check=True"
    )


def test_rerank_hands_the_engines_options_on(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def refuse(*_: Any, **settings: Any) -> None:
        given.update(settings)
        raise InputError("enough")

    monkeypatch.setattr("qwen3_reranker.reranker.Reranker", refuse)
    asked = ("rerank", QUERY, str(tmp_path / "a.txt"))
    names = ("engine", "engine_python", "devices", "check")
    assert call(*asked)[0] == 2
    assert [given[name] for name in names] == ["auto", None, None, True]
    options = ("--engine", "transformers", "--engine-python", "/p", "--devices", "0,GPU-8f6a")
    call(*asked, *options, "--no-check")
    assert [given[name] for name in names] == ["transformers", "/p", [0, "GPU-8f6a"], False]


def test_a_device_that_cannot_be_used_is_named(call: Call, tmp_path: Path) -> None:
    code, _, said = call("rerank", QUERY, str(tmp_path / "a.txt"), "--devices", "0,1,0")
    assert code == 2
    assert "error: --devices 0,1,0 has GPU 0 twice" in said


def test_the_doctor_looks_at_the_interpreter_of_the_engine(call: Call, tmp_path: Path) -> None:
    code, shown, _ = call("doctor", "--engine-python", str(tmp_path / "none"))
    assert code == 1
    # Without the spaces, which stand wherever a line ends.
    words = f"--engine-python {tmp_path / 'none'} is not a program"
    assert words.replace(" ", "") in "".join(shown.split())


def test_exit_codes(call: Call, server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("Beijing is the capital of China.\n", "utf-8")
    ask = ("rerank", QUERY, str(file), "--base-url", server.url)
    assert call(*ask)[0] == 0
    assert call(*ask, "--no-such-option")[0] == 2
    assert call("rerank", QUERY, str(tmp_path / "none"), "--base-url", server.url)[0] == 2
    server.always(Reply({"detail": "CUDA error"}, 500))
    code, _, said = call(*ask, "--dialect", "vllm-classify")
    assert code == 3
    assert said.startswith("error: ") and "CUDA error" in said
    assert call("doctor", "http://127.0.0.1:9")[0] == 1


def test_an_unexpected_exception_is_a_failure_too(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("never")

    monkeypatch.setattr("qwen3_reranker.doctor.diagnose", fail)
    code, _, said = call("doctor")
    assert code == 3
    assert "Traceback" in said and "ZeroDivisionError: never" in said


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_documents_is_said_to_have_none(
    call: Call, server: ScriptedServer, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "empty.txt"
    file.write_text(content, "utf-8")
    ask = ("rerank", QUERY, str(file), "--base-url", server.url)
    assert call(*ask) == (0, "", f"{file}: no documents\n")
    assert call(*ask, "--json") == (0, "", f"{file}: no documents\n")
    assert not server.requests
    file.write_text("nothing\nof use\n", "utf-8")
    assert call(*ask, "--min-score", "1") == (
        0,
        "",
        f"{file}: no document scores 1.0 or more\n",
    )


def test_a_warning_is_one_line(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("Beijing is the capital of China.\n", "utf-8")
    with ScriptedServer(rerank(judge_of, "llama.cpp")) as server:
        code, _, said = call(
            *("rerank", QUERY, str(file), "--base-url", server.url, "--instruction", "Find it"),
            *("--dialect", "llama.cpp", "--template", "server"),
        )
    assert code == 0
    assert said.startswith("warning: an instruction was given, but ") and said.count("\n") == 1


def judge_of(query: str, text: str) -> float:
    return 0.9 if "Beijing" in text and "China" in query else 0.1


# Terminals


def test_documents_cannot_speak_to_the_terminal(
    call: Call, server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": HOSTILE}) + "\n", "utf-8")
    ask = ("rerank", QUERY, str(file), "--base-url", server.url)
    _, shown, _ = call(*ask)
    assert visible(shown)
    assert r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202eBeijing" in shown
    _, printed, _ = call(*ask, "--json")
    assert visible(printed)
    assert json.loads(printed)["document"]["text"] == HOSTILE


def test_servers_cannot_speak_to_the_terminal(
    call: Call, server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\n", "utf-8")
    server.always(Reply({"detail": HOSTILE}, 400))
    ask = ("--dialect", "vllm-classify", "--template", "client")
    _, _, said = call("rerank", QUERY, str(file), "--base-url", server.url, *ask)
    assert visible(said) and r"\x1b[2J" in said
    for arguments in ([], ["--json"]):
        _, shown, _ = call("doctor", server.url, *ask, *arguments)
        assert visible(shown) and "owned" in shown


def test_a_report_that_python_prints_is_escaped_too(server: ScriptedServer) -> None:
    from qwen3_reranker.doctor import diagnose

    server.always(Reply({"detail": HOSTILE}, 400))
    report = str(diagnose(server.url, dialect="vllm-classify", template="client"))
    assert visible(report) and "owned" in report


def test_escapes_keep_what_is_harmless() -> None:
    assert escape_control("tab\tline\r\nß 中文 🙂 عربي") == "tab\tline\nß 中文 🙂 عربي"
    assert escape_control("\x00\x7f\x85\ud800") == r"\x00\x7f\x85\ud800"
    for character in map(chr, [*range(0x20, 0xA0), 0x202E, 0x4E2D]):
        written = escape_json(json.dumps(character, ensure_ascii=False))
        assert json.loads(written) == character


# The doctor


def test_the_doctor_says_what_it_looks_at_on_a_terminal_only(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen3_reranker.doctor import diagnose

    checks: list[str] = []
    with ScriptedServer(vllm()) as server:
        assert diagnose(server.url, on_progress=checks.append).healthy
        assert call("doctor", server.url)[2] == ""
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert "\x1b" in call("doctor", server.url)[2]
    assert checks[0] == "this environment"
    assert [check.removeprefix(f"{server.url}: ") for check in checks[1:]] == [
        *("kind", "dialect and template", "determinism", "template", "other endpoints"),
        *("instruction", "control tokens", "truncation", "latency", "golden pairs"),
    ]


def test_the_doctor_shows_the_versions_that_a_report_of_a_defect_needs(call: Call) -> None:
    _, shown, _ = call("doctor")
    for name in ("qwen3-reranker", "langchain-core", "llama-index-core"):
        assert re.search(rf"environment: {name} +\S*\d", shown), shown
