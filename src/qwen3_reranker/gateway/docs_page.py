"""The page at `/docs`, which describes all endpoints and needs nothing from other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from qwen3_reranker.gateway.api.api import Api
from qwen3_reranker.gateway.endpoints import ENDPOINTS
from qwen3_reranker.gateway.schema import body_schema
from qwen3_reranker.markup import Html, join, tag
from qwen3_reranker.version import __version__

__all__ = ["docs_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { border: 1px solid var(--line); border-radius: 6px; padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid var(--line); }
"""
_INTRODUCTION = (
    "Send the API key as Authorization: Bearer KEY if the gateway requires one. GET /v1/models "
    "lists the names that the field model can have. Fields that are not listed here are ignored."
)


def docs_page(others: Iterable[tuple[str, str]]) -> str:
    """
    Return the page.

    Args:
        others: The path and the description of each endpoint that does not score.
    """
    sections = [
        join(
            tag("h2", endpoint.summary),
            tag("p", "POST ", *_separated(endpoint.paths)),
            *(_api(endpoint.paths[0], api) for api in endpoint.apis),
        )
        for endpoint in ENDPOINTS
    ]
    rows = [tag("tr", tag("td", tag("code", path)), tag("td", text)) for path, text in others]
    title = f"qwen3-reranker gateway {__version__}"
    body = join(
        tag("h1", title),
        tag("p", _INTRODUCTION),
        tag("p", "For programs: ", tag("a", "openapi.json", href="openapi.json")),
        *sections,
        tag("h2", "Other paths (GET)"),
        tag("table", *rows),
    )
    head = join(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Html(_STYLE)),
    )
    return f"<!doctype html>{tag('html', tag('head', head), tag('body', body), lang='en')}"


def _api(path: str, api: Api) -> Html:
    schema = body_schema(api.body)
    required = schema.get("required", [])
    rows = [
        tag(
            "tr",
            tag("td", tag("code", name)),
            tag("td", _type(field), "" if name in required else ", optional"),
            tag("td", field.get("description", "")),
        )
        for name, field in sorted(
            schema["properties"].items(), key=lambda item: item[0] not in required
        )
    ]
    request = json.dumps(api.example_request, indent=2)
    answer = json.dumps(api.example_answer, indent=2)
    return join(
        tag("h3", api.title),
        tag("table", tag("tr", *(tag("th", t) for t in ("Field", "Type", "Meaning"))), *rows),
        tag("pre", f"curl http://127.0.0.1:8000{path} -d '{request}'"),
        tag("pre", answer),
    )


def _separated(paths: Iterable[str]) -> list[Html]:
    first, *others = [tag("code", path) for path in paths]
    return [first, *(join(", ", path) for path in others)]


def _type(schema: dict[str, Any]) -> str:
    """Return a JSON schema's type in words, without null."""
    if "anyOf" in schema:
        kinds = [_type(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("type", "any"))
