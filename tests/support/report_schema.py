"""The JSON schema of an evaluation's report, made from its dataclasses and their docstrings."""

from __future__ import annotations

import dataclasses
import json
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from qwen3_reranker.evaluation.report import REPORT_FORMAT, Report
from qwen3_reranker.options import entries

from support.docs_pages import DOCS

SCHEMA_FILE = DOCS / "reference" / "report.schema.json"
_PLAIN: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
}


def schema() -> dict[str, Any]:
    """Return the schema of what `Report.save()` writes."""
    definitions: dict[str, Any] = {}
    root = _object(Report, definitions)
    version = {"const": REPORT_FORMAT, "description": "The version of this format."}
    root["properties"] = {"format": version, **root["properties"]}
    root["required"].insert(0, "format")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of qwen3-reranker evaluate",
        **root,
        "$defs": definitions,
    }


def schema_text() -> str:
    """Return the schema as it is written to the documentation."""
    return json.dumps(schema(), indent=2) + "\n"


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, texts = get_type_hints(kind), entries(kind)
    assert list(hints) == list(texts), f"{kind.__name__} documents {list(texts)}"
    properties = {
        name: _value(hint, definitions) | {"description": texts[name]}
        for name, hint in hints.items()
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(hints),
        "additionalProperties": False,
    }


def _value(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if dataclasses.is_dataclass(hint):
        name = hint.__name__  # type: ignore[union-attr]
        if name not in definitions:
            definitions[name] = {}  # reserves its place in the order
            definitions[name] |= _object(hint, definitions)
        return {"$ref": f"#/$defs/{name}"}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        kinds = [_value(kind, definitions) for kind in arguments]
        if all(set(kind) == {"type"} for kind in kinds):
            return {"type": [kind["type"] for kind in kinds]}
        return {"anyOf": kinds}
    if origin is list:
        return {"type": "array", "items": _value(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(arguments[1], definitions)}
    return {"type": _PLAIN[hint]}
