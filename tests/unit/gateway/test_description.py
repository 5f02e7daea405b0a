"""What a gateway says about its endpoints, to programs and to people."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.gateway import create_app
from qwen3_reranker.gateway.docs_page import docs_page
from qwen3_reranker.gateway.endpoints import ENDPOINTS

from support.gateway import RelevanceScorer, client_of, gateway

APIS = [(endpoint.paths, api) for endpoint in ENDPOINTS for api in endpoint.apis]
IDS = [api.name for _, api in APIS]


def shape(value: Any) -> Any:
    """Return a value with each scalar replaced by its type, and of lists the first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value)


async def document() -> dict[str, Any]:
    async with gateway(RelevanceScorer()) as client:
        found: dict[str, Any] = (await client.get("/openapi.json")).json()
        return found


@pytest.mark.parametrize(("paths", "api"), APIS, ids=IDS)
async def test_the_examples_are_true(paths: Any, api: Any) -> None:
    async with gateway(RelevanceScorer()) as client:
        for path in paths:
            response = await client.post(path, json=api.example_request)
            assert response.status_code == 200, response.text
            assert shape(response.json()) == shape(api.example_answer)


async def test_each_path_has_a_schema_that_its_examples_fit() -> None:
    described = (await document())["paths"]
    for endpoint in ENDPOINTS:
        for path in endpoint.paths:
            content = described[path]["post"]["requestBody"]["content"]["application/json"]
            assert [example["value"] for example in content["examples"].values()] == [
                api.example_request for api in endpoint.apis
            ]
            for api in endpoint.apis:
                jsonschema.validate(api.example_request, content["schema"])
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({"query": 3, "text_1": 3}, content["schema"])
            assert {"200", "401", "413", "422", "503"} <= described[path]["post"][
                "responses"
            ].keys()
            assert "$ref" not in str(content)


async def test_each_operation_has_a_name_of_its_own_and_a_description() -> None:
    operations = [
        operation for path in (await document())["paths"].values() for operation in path.values()
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(o.get("description") or o.get("requestBody") for o in operations)


async def test_the_page_shows_every_field_and_loads_nothing() -> None:
    async with gateway(RelevanceScorer()) as client:
        response = await client.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    page = response.text
    for paths, api in APIS:
        fields = api.body.model_fields
        assert all(f"<code>{name}</code>" in page for name in [*fields, *paths])
        assert all(field.description for field in fields.values())
    for path in ("/v1/models", "/ready", "/metrics", "/info"):
        assert f"<code>{path}</code>" in page
    links = re.findall(r"""(?:src|href|url|action)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert links == ["openapi.json"]
    assert "<script" not in page


async def test_the_page_shows_paths_that_were_added_to_the_application() -> None:
    with Reranker(scorer=RelevanceScorer()) as reranker:
        app = create_app(reranker)
        app.add_api_route("/mine", lambda: "mine")
        async with client_of(app) as client:
            assert "<code>/mine</code>" in (await client.get("/docs")).text


def test_texts_on_the_page_are_escaped() -> None:
    assert "<td>a &lt;b&gt;</td>" in docs_page([("/x", "a <b>")])
