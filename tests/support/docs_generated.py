"""
The parts of the documentation that are generated from the code.

    PYTHONPATH=tests python -m support.docs_generated    # writes them; tests compare
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from qwen3_reranker.cli.app import app
from qwen3_reranker.problems import PROBLEMS

from support import platform_results
from support.docs_pages import DOCS
from support.grafana import DASHBOARD_FILE, dashboard_text
from support.report_schema import SCHEMA_FILE, schema_text

CLI_PAGE = DOCS / "reference" / "cli.md"
PROBLEMS_PAGE = DOCS / "how-to" / "doctor.md"
_PROBLEMS = re.compile(r"(?<=<!-- problems: begin -->\n).*(?=\n<!-- problems: end -->)", re.DOTALL)

_HEAD = """\
# Command line

The command is `qwen3-reranker`, also available as `python -m qwen3_reranker`. It needs the extra
`cli`. Files, output and exit codes are described in [Rerank files](../how-to/command-line.md).
"""


def cli_page() -> str:
    """Return the reference of all commands."""
    group: Any = typer.main.get_command(app)
    functions = [registered.callback for registered in app.registered_commands]
    commands = zip(group.commands.values(), functions, strict=True)
    return "\n".join([_HEAD, *(_command(command, function) for command, function in commands)])


def problems_page() -> str:
    """Return the page of the doctor with the current table of problems."""
    rows = [
        f"| `{code}` | {_escape(known.meaning)} | {_escape(known.advice)} |"
        for code, known in PROBLEMS.items()
    ]
    table = "\n".join(["| code | meaning | what to do |", "|---|---|---|", *rows])
    page, tables = _PROBLEMS.subn(lambda _: table, PROBLEMS_PAGE.read_text("utf-8"))
    assert tables == 1, f"{PROBLEMS_PAGE} has {tables} tables of problems"
    return page


def _escape(text: str) -> str:
    """Return a text in which Markdown does not take <think> for an HTML tag."""
    return html.escape(text, quote=False)


def _command(command: Any, function: Any) -> str:
    hints = get_type_hints(function)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name in hints]
    # What follows -- comes last, because options after it would not be read as options.
    named = [_usage(p) for p in arguments if p.nargs != -1]
    rest = [_usage(p) for p in arguments if p.nargs == -1]
    middle = ["[OPTIONS]"] if options else []
    usage = " ".join(["qwen3-reranker", command.name, *named, *middle, *rest])
    parts = [f"## {command.name}", command.help, f"```{{ .text .no-run }}\n{usage}\n```"]
    if arguments:
        rows = [f"| `{_name(p)}` | {_cell(p.help)} |" for p in arguments]
        parts.append("\n".join(["| Argument | Meaning |", "|---|---|", *rows]))
    if options:
        rows = [
            f"| {_flag(p)} | {_values(hints[p.name])} | {_cell(p.help)}{_notes(p)} |"
            for p in options
        ]
        parts.append("\n".join(["| Option | Value | Meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _usage(argument: Any) -> str:
    name = _name(argument)
    if argument.nargs == -1:
        return f"[-- {name}...]"
    return name if argument.required else f"[{name}]"


def _flag(option: Any) -> str:
    names = [name for name in (*option.opts, *option.secondary_opts) if name.strip()]
    return ", ".join(f"`{name}`" for name in names)


def _values(hint: Any) -> str:
    """Return what an option takes, by the annotation of its parameter."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in kinds)
    [kind] = kinds
    if kind is bool:
        return ""
    if get_origin(kind) is list:
        return f"{_values(get_args(kind)[0])}, repeatable"
    if get_origin(kind) is tuple:
        return " ".join(map(_values, get_args(kind)))
    names = {int: "number", float: "number", str: "text", Path: "path", Any: "list"}
    return names[kind] if kind in names else _values(kind)


def _notes(option: Any) -> str:
    notes = []
    if option.show_default and not option.is_flag and option.default not in (None, ""):
        notes.append(f"Default: `{option.default}`.")
    if option.envvar:
        notes.append(f"Environment variable: `{option.envvar}`.")
    return "".join(f" {note}" for note in notes)


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    text = " ".join(text.replace("\\[", "[").split())
    return re.sub(r"([|*<\[\]])", r"\\\1", text)


def main() -> None:
    """Write the pages."""
    CLI_PAGE.write_text(cli_page(), "utf-8")
    PROBLEMS_PAGE.write_text(problems_page(), "utf-8")
    DASHBOARD_FILE.write_text(dashboard_text(), "utf-8")
    SCHEMA_FILE.write_text(schema_text(), "utf-8")
    platform_results.PAGE.write_text(platform_results.page(), "utf-8")


if __name__ == "__main__":
    main()
