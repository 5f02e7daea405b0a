"""What the OpenAPI document of a gateway says about the endpoints that score."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from qwen3_reranker.gateway.endpoints import Endpoint

__all__ = ["body_schema", "operation", "responses"]

_FAILURES = {
    400: "The body is not a JSON object.",
    401: "The API key is missing or wrong.",
    404: "The model is neither the model that is served nor an alias.",
    413: "The request is too large, or one of its documents is too long for the servers.",
    422: "A field cannot be used. The message names it.",
    503: "Too many requests wait, or scoring fails. Try again after `Retry-After` seconds.",
    504: "The request could not be answered in time.",
}


def operation(endpoint: Endpoint) -> dict[str, Any]:
    """Return what describes the body of an endpoint's requests."""
    schemas = [body_schema(api.body) for api in endpoint.apis]
    content = {
        "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
        "examples": {
            api.name: {"summary": api.title, "value": api.example_request} for api in endpoint.apis
        },
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def responses(endpoint: Endpoint) -> dict[int | str, dict[str, Any]]:
    """Return what describes the answers of an endpoint, by HTTP status."""
    examples = {
        api.name: {"summary": api.title, "value": api.example_answer} for api in endpoint.apis
    }
    success = {
        "description": "The scores.",
        "content": {"application/json": {"examples": examples}},
    }
    failures: dict[int | str, dict[str, Any]] = {
        status: {"description": text} for status, text in _FAILURES.items()
    }
    return {200: success} | failures


def body_schema(body: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a body, with the definitions that it uses in their place."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if (reference := node.get("$ref")) is not None:
            return inlined(definitions[reference.rpartition("/")[2]])
        return {key: inlined(value) for key, value in node.items()}

    result: dict[str, Any] = inlined(schema)
    return result
