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
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.ranking import Hit
from qwen3_reranker.tracing import Framework

try:
    from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload

    # This import is the documented one, though the module does not list the name as exported.
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import (
        BaseNode,
        MetadataMode,
        NodeWithScore,
        QueryBundle,
        TextNode,
    )

    from qwen3_reranker.integration.adapter import Adapter, as_list
    from qwen3_reranker.integration.marks import (
        CUT_KEY,
        MARKS,
        RETRIEVAL_SCORE_KEY,
        cost_of,
        marks_of,
    )
    from qwen3_reranker.integration.settings import AdapterOptions
    from qwen3_reranker.options import document_options
    from qwen3_reranker.passages.options import LongDocumentOptions
    from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
    from qwen3_reranker.selection import SelectionOptions
except ImportError as error:
    raise MissingDependencyError(
        "qwen3_reranker.llama_index needs llama-index-core: "
        f"pip install 'qwen3-reranker[llama-index]' ({error})"
    ) from error

__all__ = ["Qwen3Rerank"]

_dispatcher = get_dispatcher(__name__)


@document_options(SelectionOptions, LongDocumentOptions, ConnectionOptions, ServerOptions)
class Qwen3Rerank(Adapter, BaseNodePostprocessor):
    """
    Keep the nodes that a Qwen3 reranker scores best for the query, best first.

    Returns new `NodeWithScore` objects, with P(yes) in [0, 1] as their score; the objects given
    are not changed. The sync and the async method do the same, and send a start and an end event
    for every call to the dispatcher and to the callback manager. On empty input and on errors,
    the end event carries the nodes as they were given. After a call that succeeds, its `tags` (and
    the `ADDITIONAL_KWARGS` of the callback manager's event) hold the call's `tokens` and `seconds`.

    A node whose end was cut off to fit `max_length` is a copy with `metadata["rerank_truncated"]`,
    which is True and hidden from embedding models and LLMs. A later call that scores it whole
    removes that key.

    With `long_documents="passages"` the nodes are copies with `metadata["rerank_passage"]`, hidden
    from embedding models and LLMs: a dictionary with the `start` and `end` of the best passage (in
    characters of the node's text without metadata), its `score` and the `count` of the passages
    that were scored.

    A node without text of its own (an image, a blank text) is not scored, whatever its metadata
    contains. It comes last, with a score of 0.0, and is dropped only by `top_n`, `min_score`
    and `token_budget`.

    The engine starts at the first query. Any number of threads and event loops can use one object
    at the same time. A copy or an unpickled object is created from the settings; in the same
    process it shares the engine. An object with a ready `reranker` cannot be pickled.
    `instruction`, `metadata_mode`, `keep_retrieval_score`, `top_n`, `min_score`,
    `drop_duplicates`, `token_budget`, `token_counter` and `cut_last` can be reassigned. Settings
    that may hold a secret (`api_key`, `headers`, `proxy`, `verify`, `http_client` and
    `engine_args`) and `token_counter` do not appear in `repr()` or `to_dict()`.

    Duplicates are found by the nodes' own texts. Tokens are those that a language model reads of a
    node: its text with the metadata of `MetadataMode.LLM`. A node that was cut to fit
    `token_budget` is a copy with `metadata["rerank_cut"]`, which is True, and is hidden from
    embedding models and LLMs.

    Args:
        model: A hub name, a folder, or "demo" (a small model that is part of this package). None
            uses `DEFAULT_MODEL`. With `base_url` it is the name of the model on the server, and
            None uses the model that the server lists.
        base_url: The URL of a server that scores, instead of an embedded engine: its root, `/v1`,
            or the full path of an endpoint. A list names several servers of the same model.
        instruction: What makes a node a good match, in one English sentence. None uses the
            instruction of `reranker`, or `DEFAULT_INSTRUCTION`.
        top_n: Keep at most this many nodes, 1 or more. None keeps all.
        min_score: Keep only nodes with at least this P(yes), in [0, 1]. None keeps all.
        max_length: The maximum number of tokens in a prompt, including the template. Longer
            texts are truncated at the end. None uses 8192, or the model's limit if that is lower.
        metadata_mode: Which metadata is scored as part of a node's text. What an earlier call has
            written into the metadata is never scored.
        keep_retrieval_score: Whether to return copies of the nodes that hold their previous score
            as `metadata["retrieval_score"]`, hidden from embedding models and LLMs (only
            `MetadataMode.ALL` shows it). Otherwise the new objects share the nodes given.
        on_error: How to handle scoring failures: "raise", or "keep_order", which issues a
            `RerankerWarning` and returns the nodes in the order given, limited only by `top_n` and
            `token_budget`, with their previous scores, as copies of the nodes that hold the reason
            as `metadata["rerank_error"]`. A later call that succeeds removes that key.
        engine: What runs the embedded model: "vllm" in a process of its own, "transformers" in
            this process on CUDA, MPS or the CPU, or "auto", which is vLLM on Linux and
            transformers on macOS and Windows.
        engine_args: Arguments of the engine, which replace those that this package chooses. With
            vLLM they are those of its `EngineArgs`; with transformers, `device`, `dtype`,
            `max_num_batched_tokens`, `revision` and `hf_token`.
        engine_python: The Python interpreter whose vLLM runs the engine, such as
            "/opt/vllm/bin/python". None uses the environment variable
            QWEN3_RERANKER_ENGINE_PYTHON, the running interpreter if it has vLLM, or the
            environment that `qwen3-reranker install-engine` made, in this order.
        devices: The devices on which vLLM runs, one engine on each: GPUs by index, such as [0, 1],
            or by UUID, or sets of CPU cores, such as ["cpu:0-15", "cpu:16-31"]. Each query is
            divided among them. Indices count the GPUs that CUDA_VISIBLE_DEVICES shows. With
            `tensor_parallel_size` t in `engine_args`, each engine runs on t consecutive devices.
            `engine_args={"data_parallel_size": n}` stands for the first n of them. None runs one
            engine, on the first GPU or all cores.
        check: Whether to score two questions with obvious answers when an engine has started, and
            to reject a model that does not answer them as a Qwen3 reranker does.
        quiet: Whether to suppress the notice on standard error that an engine takes longer than
            two seconds to start.
        cache: A store for scores: a dict, `cachetools.LRUCache`, `diskcache.Cache` or any other
            object that has `get` and supports item assignment. Copies of this object share it,
            pickles leave it out.
        returns: What to return: each node as a "document", or its best "passage" in place of it,
            which requires `long_documents="passages"`. Such a copy keeps id, metadata and
            relationships, and its `metadata["rerank_passage"]` says where in the node's text the
            passage is. A node is returned whole if its best passage consists of metadata alone. The
            first passage that does not fit into `token_budget` is cut, whatever `cut_last` says.
        reranker: A `Reranker` to score with, which several adapters may share. It stays open when
            this object is closed. Arguments that would configure a new one (`model`, `base_url`,
            ...) must then be left out.
        callback_manager: LlamaIndex's `CallbackManager`. Copies of this object share it, pickles
            leave it out.
        **options: What to keep besides, see `SelectionOptions`; the options for long documents, see
            `LongDocumentOptions`; and those for `base_url`, see `ServerOptions`. `timeout` also
            applies without a server.

    Raises:
        pydantic.ValidationError: An argument is unknown or cannot be used. This is a `ValueError`.

    Example:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> from qwen3_reranker.llama_index import Qwen3Rerank
        >>> texts = [
        ...     "random.shuffle(x): Shuffle list x in place, and return None.",
        ...     "shutil.copytree(src, dst): Recursively copy a directory tree.",
        ... ]
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> with Qwen3Rerank(model="demo", top_n=1) as reranker:
        ...     [best] = reranker.postprocess_nodes(nodes, query_str="copy a folder")
        >>> print(round(best.score, 1), best.text)
        0.8 shutil.copytree(src, dst): Recursively copy a directory tree.
    """

    _framework: ClassVar[Framework] = "llama_index"
    # A callback manager's handlers hold the caller's queries and open files.
    _of_this_process: ClassVar[frozenset[str]] = frozenset({"cache", "callback_manager"})

    metadata_mode: MetadataMode = MetadataMode.EMBED
    keep_retrieval_score: bool = False

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            metadata_mode: MetadataMode = MetadataMode.EMBED,
            keep_retrieval_score: bool = False,
            callback_manager: CallbackManager = ...,
            **settings: Unpack[AdapterOptions],
        ) -> None: ...

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores with the settings."""
        return "Qwen3Rerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _require(query_bundle)
        with self._events(nodes, query) as (kept, cost):
            with self._call(kept, query.query_str, self._texts(kept)) as arguments:
                hits = self._reranker.rerank(**arguments)
            kept[:] = self._materialize(kept, hits)
            cost.update(cost_of(hits.usage))
        return kept

    @_dispatcher.span  # the base class wraps only abstract methods in a span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _require(query_bundle)
        with self._events(nodes, query) as (kept, cost):
            with self._call(kept, query.query_str, self._texts(kept)) as arguments:
                hits = await self._reranker.arerank(**arguments)
            kept[:] = self._materialize(kept, hits)
            cost.update(cost_of(hits.usage))
        return kept

    def _id(self, item: NodeWithScore) -> str | None:
        return item.node_id

    def _texts(self, nodes: list[NodeWithScore]) -> list[str]:
        """Return the text to score of each node; "" for a node without text of its own."""
        return [
            _unmarked(item.node).get_content(metadata_mode=self.metadata_mode)
            if item.node.get_content(metadata_mode=MetadataMode.NONE).strip()
            else ""
            for item in nodes
        ]

    def _content(self, item: NodeWithScore) -> str:
        return item.node.get_content(metadata_mode=MetadataMode.NONE)

    def _shown(self, item: NodeWithScore, hit: Hit) -> str:
        node = item.node
        if hit.text != self._content(item):
            node = node.model_copy()
            node.set_content(hit.text)
        return node.get_content(metadata_mode=MetadataMode.LLM)

    def _materialize(self, nodes: list[NodeWithScore], hits: list[Hit]) -> list[NodeWithScore]:
        """Return new objects for the nodes of the hits, in the order of the hits."""
        kept = []
        for hit in hits:
            item = nodes[hit.index]
            marks = marks_of(hit)
            if self.keep_retrieval_score:
                marks[RETRIEVAL_SCORE_KEY] = item.score
            # Nodes from an earlier call may still carry the marks of that call.
            changed = marks or not MARKS.isdisjoint(item.node.metadata)
            node = _with_marks(item.node, marks) if changed else item.node
            if hit.text != self._content(item):
                self._set_text(node, hit)
            score = item.score if hit.error else hit.score
            kept.append(item.model_copy(update={"node": node, "score": score}))
        return kept

    def _set_text(self, node: BaseNode, hit: Hit) -> None:
        """Replace the text of a copied node by a part of it: the best passage, or what fits."""
        node.set_content(hit.text)
        if isinstance(node, TextNode) and node.start_char_idx is not None:
            passage = hit.passage if self.returns == "passage" else None
            if passage is not None and passage.start < passage.end:
                node.start_char_idx += passage.start
            node.end_char_idx = node.start_char_idx + len(hit.text)

    @contextmanager
    def _events(
        self, nodes: list[NodeWithScore], query: QueryBundle
    ) -> Iterator[tuple[list[NodeWithScore], dict[str, Any]]]:
        """
        Send the start events before the block, and the end events after it.

        Yields a copy of the list of nodes, and an empty dictionary. The end events carry what the
        block has made of them: the nodes that were kept, and what the call cost.
        """
        kept = as_list("nodes", nodes)
        for index, item in enumerate(kept):
            if not isinstance(item, NodeWithScore):
                raise InputError(
                    f"nodes[{index}] is a {type(item).__name__}, not a NodeWithScore: write "
                    "NodeWithScore(node=node)"
                )
        cost: dict[str, Any] = {}
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
            # On an error the manager ends its own event, and adds the exception.
            with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
                yield kept, cost
                event.on_end(
                    payload={EventPayload.NODES: kept, EventPayload.ADDITIONAL_KWARGS: cost}
                )
        finally:
            _dispatcher.event(ReRankEndEvent(nodes=kept, tags=cost))


def _require(query_bundle: QueryBundle | None) -> QueryBundle:
    if query_bundle is None:
        raise InputError("Missing query bundle in extra info. Give query_bundle= or query_str=")
    return query_bundle


def _unmarked(node: BaseNode) -> BaseNode:
    """Return the node without the metadata of earlier calls, which `MetadataMode.ALL` shows."""
    written = {*MARKS, CUT_KEY, RETRIEVAL_SCORE_KEY}.intersection(node.excluded_embed_metadata_keys)
    if written.isdisjoint(node.metadata):
        return node
    kept = {key: value for key, value in node.metadata.items() if key not in written}
    return node.model_copy(update={"metadata": kept})


def _with_marks(node: BaseNode, marks: dict[str, Any]) -> BaseNode:
    """
    Return a copy of a node whose metadata has the marks, and no others of an earlier call.

    Embedding models and LLMs do not read the marks.
    """
    stale = MARKS & node.metadata.keys()
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
