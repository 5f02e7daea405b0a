"""
Qwen3-Reranker for LlamaIndex: a node postprocessor for query engines, retrievers and workflows.

    from qwen3_reranker.llama_index import Qwen3Rerank

    engine = index.as_query_engine(
        similarity_top_k=50, node_postprocessors=[Qwen3Rerank(top_n=5)]
    )
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.ranking import Hit

try:
    from llama_index.core.callbacks import CBEventType, EventPayload

    # The documented place, though the module does not declare the name as exported.
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle

    from qwen3_reranker.integration import ERROR_KEY, Adapter
except ImportError as error:
    raise MissingDependencyError(
        "qwen3_reranker.llama_index needs llama-index-core: "
        f"pip install 'qwen3-reranker[llama-index]' ({error})"
    ) from error

__all__ = ["Qwen3Rerank"]

_dispatcher = get_dispatcher(__name__)
_RETRIEVAL_SCORE = "retrieval_score"


class Qwen3Rerank(Adapter, BaseNodePostprocessor):
    """
    Keeps the nodes that a Qwen3 reranker finds best for the query.

    Returns new `NodeWithScore` objects, best first, with P(yes) in [0, 1] as their score; the
    caller's stay as they were. The sync and the async method do the same, and send a start and
    an end event for every call to the dispatcher and to the callback manager, also on empty
    input and on errors (the end event then carries the nodes as they came).

    A node without text of its own (an image, a blank text) cannot be judged, whatever its
    metadata say: it comes last with a score of 0.0, dropped by `top_n` and `min_score` alone.

    Args:
        model: A hub name, a folder, or "demo" (a small model that the package carries). With
            `base_url` the name that the server knows it by; None takes what it lists.
        base_url: Score with this server instead of an embedded vLLM; or a list of servers.
        instruction: What makes a node a good one, in one English sentence; None takes the
            reranker's own.
        top_n: Keep so many at most; None keeps all.
        min_score: Keep those with at least this P(yes), in [0, 1]; None keeps all.
        max_length: The most tokens of a prompt; longer texts are cut at their end. None takes
            8192, or the model's limit where that is lower.
        on_error: What happens where scoring fails: "raise", or "keep_order", which returns the
            first `top_n` as the retriever found them, with the scores they came with, as copies
            of the nodes that hold the reason as `metadata["rerank_error"]`. A later call that
            succeeds removes that key from the nodes it returns.
        api_key: The server's. Like `headers`, `proxy`, `verify`, `http_client` and `engine_args`
            it is left out of `to_dict()` and `repr()`.
        dialect, template, tokenizer, timeout, max_concurrency, max_retries, headers, verify,
            proxy, http_client, on_unsupported: How servers are reached, see
            `qwen3_reranker.ServerOptions`.
        engine: "vllm"; "transformers", in this process, on CUDA, MPS or the CPU; or "auto", which is
            vLLM on Linux and transformers on macOS and Windows.
        engine_args: Arguments of the engine that replace those chosen here; see
            `qwen3_reranker.Reranker`.
        engine_python: The Python interpreter whose vLLM is used; see `qwen3_reranker.Reranker`.
        check: Whether an engine that has started is asked two questions with obvious answers.
        quiet: Do not announce on standard error an engine that takes long to start.
        cache: Remembers scores, see `qwen3_reranker.Reranker`; copies share it, pickles leave it out.
        reranker: An existing `Reranker` to score with; several adapters may share it. The
            arguments that would configure a new one (`model`, `base_url`, ...) must then be left
            out. `close()` does not close it.
        metadata_mode: Which metadata are read as part of a node's text.
        keep_retrieval_score: Return copies of the nodes that hold the score they came with as
            `metadata["retrieval_score"]`, hidden from embedding and LLM (`MetadataMode.ALL` alone
            shows it). Without it the new objects share the caller's nodes.

    The engine starts at the first query. A copy or an unpickled one is made anew from the
    settings, and in one process shares the engine; a ready `reranker` cannot be pickled.
    `instruction`, `top_n`, `min_score`, `metadata_mode` and `keep_retrieval_score` may be
    reassigned.

    Raises:
        pydantic.ValidationError: A `ValueError`: an argument is unknown or cannot be used.
        InputError: Later, on nodes: the query is missing (a `ValueError`) or blank. What
            `Reranker.rerank` raises comes through as it is.
    """

    # Its handlers know the caller's queries and files.
    _of_this_process: ClassVar[frozenset[str]] = frozenset({"cache", "callback_manager"})

    metadata_mode: MetadataMode = MetadataMode.EMBED
    keep_retrieval_score: bool = False

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores with the settings."""
        return "Qwen3Rerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _require(query_bundle)
        with self._events(nodes, query) as kept:
            hits = self._reranker.rerank(query.query_str, self._texts(kept), **self._limits())
            kept[:] = self._materialize(kept, hits)
        return kept

    @_dispatcher.span  # the base class gives a span to abstract methods alone
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _require(query_bundle)
        with self._events(nodes, query) as kept:
            hits = await self._reranker.arerank(
                query.query_str, self._texts(kept), **self._limits()
            )
            kept[:] = self._materialize(kept, hits)
        return kept

    def _texts(self, nodes: list[NodeWithScore]) -> list[str]:
        return [
            item.node.get_content(metadata_mode=self.metadata_mode)
            if item.node.get_content(metadata_mode=MetadataMode.NONE).strip()
            else ""
            for item in nodes
        ]

    def _materialize(self, nodes: list[NodeWithScore], hits: list[Hit]) -> list[NodeWithScore]:
        kept = []
        for hit in hits:
            item = nodes[hit.index]
            marks: dict[str, Any] = (
                {_RETRIEVAL_SCORE: item.score} if self.keep_retrieval_score else {}
            )
            if hit.error:
                marks[ERROR_KEY] = hit.error
            # Nodes from an earlier call may still carry the reason why that one failed.
            changed = marks or ERROR_KEY in item.node.metadata
            node = _with_marks(item.node, marks) if changed else item.node
            score = item.score if hit.error else hit.score
            kept.append(item.model_copy(update={"node": node, "score": score}))
        return kept

    @contextmanager
    def _events(
        self, nodes: list[NodeWithScore], query: QueryBundle
    ) -> Iterator[list[NodeWithScore]]:
        """Send the start events, yield a list of the nodes, send its content in the end events."""
        # The body's own, for the caller's list may change while scores are awaited.
        kept = list(nodes)
        top_n = self.top_n or len(nodes)
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self._reranker.model,
            EventPayload.QUERY_STR: query.query_str,
            EventPayload.TOP_K: top_n,
        }
        _dispatcher.event(
            ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=self._reranker.model)
        )
        try:
            # On an error the manager ends its own event, with the exception.
            with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
                yield kept
                event.on_end(payload={EventPayload.NODES: kept})
        finally:
            _dispatcher.event(ReRankEndEvent(nodes=kept))


def _require(query_bundle: QueryBundle | None) -> QueryBundle:
    if query_bundle is None:
        raise InputError("Missing query bundle in extra info. Give query_bundle= or query_str=")
    return query_bundle


def _with_marks(node: BaseNode, marks: dict[str, Any]) -> BaseNode:
    """
    Return a copy of `node` whose metadata hold `marks` and no error of an earlier call.

    The marks are excluded from what an embedding model or an LLM reads.
    """
    stale = {ERROR_KEY} & node.metadata.keys()
    kept = {key: value for key, value in node.metadata.items() if key not in stale}

    def exclude(keys: list[str]) -> list[str]:
        return list(dict.fromkeys([*(key for key in keys if key not in stale), *marks]))

    return node.model_copy(
        update={
            "metadata": {**kept, **marks},
            "excluded_embed_metadata_keys": exclude(node.excluded_embed_metadata_keys),
            "excluded_llm_metadata_keys": exclude(node.excluded_llm_metadata_keys),
        }
    )
