"""What the tests share: one demo-model reranker on one real engine for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qwen3_reranker import Reranker

from helpers import SETTINGS

pytest_plugins = ["servers.fixtures"]


@pytest.fixture(scope="session")
def reranker() -> Iterator[Reranker]:
    """The demo model in an embedded vLLM, in fp32 so that scores can be compared closely."""
    with Reranker(**SETTINGS) as reranker:
        yield reranker
