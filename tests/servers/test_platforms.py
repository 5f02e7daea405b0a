"""
RAG platforms and published clients against real servers.

What each makes of a server is recorded in `platform_results.json`, and shown by the documentation.
`make platforms` runs them all and records it; the tests compare, so that also a client that begins
to work is noticed.
"""

from __future__ import annotations

import json

import pytest

from qwen3_reranker import Reranker

from support.platform_results import (
    CLIENT_SERVERS,
    PAGE,
    RESULTS,
    SERVERS,
    Scores,
    client_outcomes,
    page,
    platform_outcomes,
    reference_scores,
)
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


def test_the_page_shows_the_recorded_results() -> None:
    """`make platforms` writes it."""
    assert PAGE.read_text("utf-8") == page()
