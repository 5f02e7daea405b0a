"""
RAG platforms and published clients against real servers.

What each makes of a server is recorded in `platform_results.json`, and shown by the documentation.
`make platforms` runs them all and records it; the tests compare, so that also a client that begins
to work is noticed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest
import requests

from qwen3_reranker import Reranker

from support.helpers import INSTRUCTION
from support.platform_results import (
    CLIENT_SERVERS,
    PAGE,
    PAIRS,
    RESULTS,
    SERVERS,
    TOLERANCE,
    WORKS,
    Outcomes,
    Pairs,
    Scores,
    client_outcomes,
    page,
    platform_outcome,
    platform_outcomes,
    reference_scores,
)
from support.platforms import PLATFORMS, Endpoint
from support.servers.gateway_servers import ALIAS
from support.servers.processes import Server

RECORDED = json.loads(RESULTS.read_text("utf-8"))


@pytest.fixture(scope="module")
def reference(recipe: Reranker) -> Scores:
    scores = reference_scores(recipe)
    # Else a wrong order would look right.
    assert all(max(each) - min(each) > 0.5 for each in scores)
    return scores


def recorded(kind: str, server: str) -> dict[str, str]:
    return {name: outcomes[server] for name, outcomes in RECORDED[kind].items()}


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_platforms(server: Server, reference: Scores, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["server"]
    assert platform_outcomes(server, reference) == recorded("platforms", name)


@pytest.mark.parametrize("server", CLIENT_SERVERS, indirect=True)
def test_published_clients(
    server: Server, reference: Scores, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["server"]
    assert client_outcomes(server, reference) == recorded("clients", name)


@pytest.fixture
def endpoint(gateway: Server) -> Iterator[Endpoint]:
    with requests.Session() as http:
        yield Endpoint(http, gateway.url, gateway.served)


def not_working(endpoint: Endpoint, pairs: Pairs, scores: Scores) -> Outcomes:
    outcomes = {
        platform.name: platform_outcome(platform, endpoint, pairs, scores)
        for platform in PLATFORMS
        if platform.sends_model or endpoint.model != ALIAS
    }
    return {name: outcome for name, outcome in outcomes.items() if outcome != WORKS}


def test_an_alias_chooses_the_instruction(endpoint: Endpoint, recipe: Reranker) -> None:
    scores = recipe.score(*PAIRS[0], instruction=INSTRUCTION)
    assert scores != pytest.approx(recipe.score(*PAIRS[0]), abs=TOLERANCE)
    alias = dataclasses.replace(endpoint, model=ALIAS)
    assert not_working(alias, PAIRS[:1], [scores]) == {}


def test_a_document_that_is_too_long_fails_no_request(endpoint: Endpoint, recipe: Reranker) -> None:
    query, documents = PAIRS[0]
    pairs = [(query, [*documents, " ".join([documents[0], *documents * 12])])]
    assert not_working(endpoint, pairs, [recipe.score(*pair) for pair in pairs]) == {}


def test_everything_works_with_the_gateway() -> None:
    outcomes = [
        *recorded("platforms", "gateway").values(),
        *recorded("clients", "gateway").values(),
    ]
    assert outcomes == [WORKS] * (len(PLATFORMS) + len(RECORDED["clients"]))


def test_the_page_shows_the_recorded_results() -> None:
    """`make platforms` writes it."""
    assert PAGE.read_text("utf-8") == page()
