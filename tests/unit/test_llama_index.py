"""The node postprocessor, without an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from qwen3_reranker import InputError, Reranker
from qwen3_reranker.llama_index import Qwen3Rerank

from support.helpers import either
from support.length_scorer import LengthScorer


@pytest.mark.parametrize("call", [either("postprocess_nodes"), either("apostprocess_nodes")])
@pytest.mark.parametrize("wrong", [TextNode(text="two"), "two"])
async def test_a_node_without_a_place_for_its_score_is_named(
    call: Callable[..., Any], wrong: Any
) -> None:
    adapter = Qwen3Rerank(reranker=Reranker(scorer=LengthScorer()))
    nodes = [NodeWithScore(node=TextNode(text="one")), wrong]
    with pytest.raises(InputError, match=rf"nodes\[1\] is a {type(wrong).__name__}, .*node="):
        await call(adapter, nodes, query_str="query")


@pytest.mark.parametrize("call", [either("postprocess_nodes"), either("apostprocess_nodes")])
@pytest.mark.parametrize("wrong", [None, 3, "text"])
async def test_nodes_that_are_no_list_are_named(call: Callable[..., Any], wrong: Any) -> None:
    adapter = Qwen3Rerank(reranker=Reranker(scorer=LengthScorer()))
    message = f"nodes must be a list, not one {type(wrong).__name__}"
    with pytest.raises(InputError, match=message):
        await call(adapter, wrong, query_str="query")
