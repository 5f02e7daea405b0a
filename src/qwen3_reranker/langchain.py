"""
Qwen3-Reranker for LangChain: a document compressor that is also a step of an LCEL chain.

    from qwen3_reranker.langchain import Qwen3Rerank

    reranker = Qwen3Rerank(top_n=5)
    chain = {"query": RunnablePassthrough(), "documents": retriever} | reranker.as_runnable()
    documents = chain.invoke("How do I shuffle a list in place?")

    ContextualCompressionRetriever(base_compressor=reranker, base_retriever=retriever)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.integration.document_template import fill_template, validate_template
from qwen3_reranker.ranking import Hit, Ranking
from qwen3_reranker.tracing import Framework

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.runnables import Runnable, RunnableLambda
    from pydantic import Field, field_validator
    from typing_extensions import TypedDict  # pydantic rejects that of typing before Python 3.12

    from qwen3_reranker.integration.adapter import Adapter, as_list
    from qwen3_reranker.integration.marks import (
        MARKS,
        RETRIEVAL_RANK_KEY,
        RETRIEVAL_SCORE_KEY,
        WRITTEN_KEYS,
        cost_of,
        marks_of,
        score_of,
    )
    from qwen3_reranker.integration.settings import AdapterOptions
    from qwen3_reranker.options import document_options
    from qwen3_reranker.passages.options import LongDocumentOptions
    from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
    from qwen3_reranker.selection import SelectionOptions
except ImportError as error:
    raise MissingDependencyError(
        "qwen3_reranker.langchain needs langchain-core: "
        f"pip install 'qwen3-reranker[langchain]' ({error})"
    ) from error

__all__ = ["Qwen3Rerank", "RerankInput"]


class RerankInput(TypedDict):
    """
    The input of `Qwen3Rerank.as_runnable()`. Further keys are ignored.

    Attributes:
        query: The question that the documents should answer.
        documents: The documents to rerank, in the retriever's order.
    """

    query: str
    documents: Sequence[Document]


@document_options(SelectionOptions, LongDocumentOptions, ConnectionOptions, ServerOptions)
class Qwen3Rerank(Adapter, BaseDocumentCompressor):
    r"""
    Keep the documents that a Qwen3 reranker scores best for the query, best first.

    The engine starts at the first query. Any number of threads and event loops can use one object
    at the same time. A copy or an unpickled object is created from the settings; in the same
    process it shares the engine. `instruction`, `document_template`, `metadata_key`,
    `keep_retrieval_rank`, `trace_documents`, `top_n`, `min_score`, `drop_duplicates`,
    `token_budget`, `token_counter` and `cut_last` can be reassigned. Settings that may hold a
    secret (`api_key`, `headers`, `proxy`, `verify`, `http_client` and `engine_args`) and
    `token_counter` do not appear in `repr()`, `str()` or dumps.

    Duplicates and tokens are those of the page contents that are returned, not of the texts that
    `document_template` makes for scoring.

    Args:
        model: A hub name, a folder, or "demo" (a small model that is part of this package). None
            uses `DEFAULT_MODEL`. With `base_url` it is the name of the model on the server, and
            None uses the model that the server lists.
        base_url: The URL of a server that scores, instead of an embedded engine: its root, `/v1`,
            or the full path of an endpoint. A list names several servers of the same model.
        instruction: What makes a document a good match, in one English sentence. None uses the
            instruction of `reranker`, or `DEFAULT_INSTRUCTION`.
        top_n: Keep at most this many documents, 1 or more. None keeps all.
        min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.
        max_length: The maximum number of tokens in a prompt, including the template. Longer
            texts are truncated at the end. None uses 8192, or the model's limit if that is lower.
        document_template: The text to score of each document, such as "{title}\n{page_content}".
            {page_content} stands for the page content, and any other {name} for the metadata
            value of that name, formatted by `str()`. A missing key or a value of None gives an
            empty string. None scores the page content. The documents returned keep their content.
        metadata_key: The metadata key to write P(yes) to. A value that is already there, the score
            of the retriever or of a reranker before this one, moves to
            `metadata["retrieval_score"]`, unless that key exists: the first score stays there.
        keep_retrieval_rank: Whether to write each document's position in the order given, from 1,
            to `metadata["retrieval_rank"]`.
        trace_documents: Whether the traced run of a call contains the documents given and
            returned, as a run of the type "retriever", so that LangSmith shows them as documents.
            Otherwise it contains their number, positions and scores. The run of `as_runnable()`
            is a "chain" that always contains them.
        on_error: How to handle scoring failures: "raise", or "keep_order", which issues a
            `RerankerWarning` and returns the documents in the order given, limited only by `top_n`
            and `token_budget`, without scores and with the reason as `metadata["rerank_error"]`. A
            later call that succeeds removes that key.
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
        returns: What to return: each "document", or its best "passage" in place of it, which
            requires `long_documents="passages"`. Such a copy keeps id and metadata, and its
            `metadata["rerank_passage"]` says where in the document the passage is. A document is
            returned whole if its best passage consists of metadata alone. The first passage that
            does not fit into `token_budget` is cut, whatever `cut_last` says.
        reranker: A `Reranker` to score with, which several adapters may share. It stays open when
            this object is closed. Arguments that would configure a new one (`model`, `base_url`,
            ...) must then be left out.
        **options: What to keep besides, see `SelectionOptions`; the options for long documents, see
            `LongDocumentOptions`; and those for `base_url`, see `ServerOptions`. `timeout` also
            applies without a server.

    Raises:
        pydantic.ValidationError: An argument is unknown or cannot be used. This is a `ValueError`.

    Example:
        >>> from langchain_core.documents import Document
        >>> from qwen3_reranker.langchain import Qwen3Rerank
        >>> documents = [
        ...     Document("random.shuffle(x): Shuffle list x in place, and return None."),
        ...     Document("shutil.copytree(src, dst): Recursively copy a directory tree."),
        ... ]
        >>> with Qwen3Rerank(model="demo", top_n=1) as compressor:
        ...     [best] = compressor.compress_documents(documents, "copy a folder")
        >>> print(round(best.metadata["relevance_score"], 1), best.page_content)
        0.8 shutil.copytree(src, dst): Recursively copy a directory tree.
    """

    _framework: ClassVar[Framework] = "langchain"

    document_template: str | None = None
    metadata_key: str = Field(default="relevance_score", min_length=1)
    keep_retrieval_rank: bool = False
    trace_documents: bool = False

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            document_template: str | None = None,
            metadata_key: str = "relevance_score",
            keep_retrieval_rank: bool = False,
            trace_documents: bool = False,
            **settings: Unpack[AdapterOptions],
        ) -> None: ...

    @field_validator("document_template")
    @classmethod
    def _check_template(cls, template: str | None) -> str | None:
        if template is not None:
            validate_template(template)
        return template

    @field_validator("metadata_key")
    @classmethod
    def _check_key(cls, key: str) -> str:
        if key in WRITTEN_KEYS:
            raise ValueError(f"metadata[{key!r}] has another meaning: give another name")
        return key

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """
        Return scored copies of the documents that match the query, best first.

        The copies keep id and metadata, and gain P(yes) in [0, 1] under `metadata_key`. With
        `long_documents="passages"` they also gain `metadata["rerank_passage"]`, a dictionary with
        the `start` and `end` of the best passage (in characters of the page content), its `score`
        and the `count` of the passages that were scored. One that was cut to fit `token_budget`
        gains `metadata["rerank_cut"]`, which is True. The documents given are not changed. Ties
        keep the order given. Documents without text come last, with 0.0. An empty list gives an
        empty list and starts nothing. The call is traced as a run named "Qwen3Rerank".

        Args:
            documents: The documents that a retriever found.
            query: The question or search text; not blank.
            callbacks: Where to trace the call. None adds it to the run that is active, if any.

        Returns:
            At most `top_n` documents, by descending score.

        Raises:
            InputError: The query is blank, or a document cannot be used.
            PromptTooLongError: Instruction and query leave no room for a document.
            ClosedError: The reranker is closed, or was closed while the call was waiting.
            EngineError: The engine failed.
            ServerError: The server failed, or does not serve a model that can be used.
        """
        documents = as_list("documents", documents)
        run, inputs, kept = self._trace(documents, query)
        run.invoke(inputs, {"callbacks": callbacks})
        return kept

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """
        Return scored copies of the documents that match the query, best first.

        The async version of `compress_documents()`. It does not block the caller's event loop.
        Canceling the awaiting task takes its requests out of the engine.

        Args:
            documents: The documents that a retriever found.
            query: The question or search text; not blank.
            callbacks: Where to trace the call. None adds it to the run that is active, if any.

        Returns:
            At most `top_n` documents, by descending score, with P(yes) under `metadata_key`.

        Raises:
            RerankerError: An argument cannot be used, or scoring failed, as in
                `compress_documents()`.
        """
        documents = as_list("documents", documents)
        run, inputs, kept = self._trace(documents, query)
        await run.ainvoke(inputs, {"callbacks": callbacks})
        return kept

    def as_runnable(self) -> Runnable[Mapping[str, Any], list[Document]]:
        """
        Return this reranker as a step of an LCEL chain.

        The step takes a query and documents, and returns what `compress_documents()` returns for
        them. It works sync, async and in batches. It shares this object's engine and reads its
        settings at each call, and is traced as one run named `Qwen3Rerank`, whose inputs and
        outputs are the documents.

        Returns:
            A runnable from `{"query": ..., "documents": ...}` (`RerankInput`) to a list of
            documents, best first. Further keys of the input are ignored.

        Raises:
            InputError: When the step is invoked with an input that lacks a key, or contains
                something other than documents. Its other errors are those of
                `compress_documents()`.

        Example:
            from langchain_core.runnables import RunnablePassthrough

            reranker = Qwen3Rerank(model="Qwen/Qwen3-Reranker-0.6B", top_n=5)
            retrieve = {"query": RunnablePassthrough(), "documents": retriever}
            chain = retrieve | reranker.as_runnable()
            documents = chain.invoke("How do I shuffle a list in place?")
        """

        def rerank(inputs: Mapping[str, Any]) -> list[Document]:
            documents, query = _unpack(inputs)
            with self._call(documents, query, self._texts(documents)) as arguments:
                hits = self._reranker.rerank(**arguments)
            return self._materialize(documents, hits)

        async def arerank(inputs: Mapping[str, Any]) -> list[Document]:
            documents, query = _unpack(inputs)
            with self._call(documents, query, self._texts(documents)) as arguments:
                hits = await self._reranker.arerank(**arguments)
            return self._materialize(documents, hits)

        step = RunnableLambda(rerank, afunc=arerank, name=type(self).__name__)
        return step.with_types(input_type=RerankInput, output_type=list[Document])

    def _trace(
        self, documents: Sequence[Document], query: str
    ) -> tuple[Runnable[dict[str, Any], dict[str, Any]], dict[str, Any], list[Document]]:
        """Return a run to be traced, the inputs that it shows, and the list that it fills."""
        texts = self._texts(documents)
        kept: list[Document] = []
        # Unless asked for, counts instead of texts: a tracer would store them all once more.
        shows_documents = self.trace_documents

        def keep(hits: Ranking) -> dict[str, Any]:
            kept.extend(self._materialize(documents, hits))
            return _summary(hits) | ({"documents": list(kept)} if shows_documents else {})

        def rerank(_: dict[str, Any]) -> dict[str, Any]:
            with self._call(documents, query, texts) as arguments:
                hits = self._reranker.rerank(**arguments)
            return keep(hits)

        async def arerank(_: dict[str, Any]) -> dict[str, Any]:
            with self._call(documents, query, texts) as arguments:
                hits = await self._reranker.arerank(**arguments)
            return keep(hits)

        inputs = {
            "query": query,
            "model": self._reranker.model,
            "documents": documents if shows_documents else len(texts),
            "top_n": self.top_n,
            "min_score": self.min_score,
            "instruction": self.instruction,
        }
        for name in ("drop_duplicates", "token_budget", "cut_last"):
            if value := getattr(self, name):
                inputs[name] = value
        run = RunnableLambda(rerank, afunc=arerank, name=type(self).__name__)
        return run.bind(run_type="retriever") if shows_documents else run, inputs, kept

    def _id(self, item: Document) -> str | None:
        return item.id

    def _texts(self, documents: Sequence[Document]) -> list[str]:
        for index, document in enumerate(documents):
            if not isinstance(document, Document):
                raise InputError(
                    f"documents[{index}] is a {type(document).__name__}, not a Document of "
                    "langchain-core: write Document(text)"
                )
        return [self._text(document) for document in documents]

    def _text(self, document: Document) -> str:
        if self.document_template is None:
            return document.page_content
        return fill_template(self.document_template, document.page_content, document.metadata)

    def _content(self, item: Document) -> str:
        return item.page_content

    def _materialize(self, documents: Sequence[Document], hits: Sequence[Hit]) -> list[Document]:
        """Return copies of the documents of the hits, in the order of the hits."""
        return [self._scored(documents[hit.index], hit) for hit in hits]

    def _scored(self, document: Document, hit: Hit) -> Document:
        """Return a copy of a document with its score, or with the reason why it has none."""
        # Documents from an earlier call may carry its marks, which are not this call's.
        metadata = {key: value for key, value in document.metadata.items() if key not in MARKS}
        if (previous := metadata.pop(self.metadata_key, None)) is not None:
            metadata.setdefault(RETRIEVAL_SCORE_KEY, previous)
        if self.keep_retrieval_rank:
            metadata[RETRIEVAL_RANK_KEY] = hit.index + 1
        if (score := score_of(hit)) is not None:
            metadata[self.metadata_key] = score
        metadata |= marks_of(hit)
        return document.model_copy(update={"page_content": hit.text, "metadata": metadata})


def _unpack(inputs: Mapping[str, Any]) -> tuple[list[Document], str]:
    """Return the documents and the query, or raise `InputError`."""
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"a {type(inputs).__name__} was given to as_runnable(), which takes a dictionary: "
            '{"query": RunnablePassthrough(), "documents": retriever} | reranker.as_runnable()'
        )
    missing = [key for key in ("query", "documents") if key not in inputs]
    if missing:
        raise InputError(
            f"the input of as_runnable() lacks {missing[0]!r}; it has the keys {[*inputs]}: write "
            '{"query": ..., "documents": ...}'
        )
    return as_list("documents", inputs["documents"]), inputs["query"]


def _summary(hits: Ranking) -> dict[str, Any]:
    """Return the outputs that a traced run shows: the ranking without texts, and its cost."""
    summary: dict[str, Any] = {
        "documents": len(hits),
        "indexes": [hit.index for hit in hits],
        "scores": [score_of(hit) for hit in hits],
        **cost_of(hits.usage),
    }
    if hits and hits[0].error:
        summary["error"] = hits[0].error
    return summary
