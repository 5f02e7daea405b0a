"""
Qwen3-Reranker for LangChain: a document compressor for `ContextualCompressionRetriever`.

    from qwen3_reranker.langchain import Qwen3Rerank

    retriever = ContextualCompressionRetriever(
        base_compressor=Qwen3Rerank(top_n=5), base_retriever=vector_store.as_retriever()
    )
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from string import Formatter
from typing import Any

from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.ranking import Hit

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.runnables import RunnableLambda
    from pydantic import Field, field_validator

    from qwen3_reranker.integration import ERROR_KEY, Adapter, score_of
except ImportError as error:
    raise MissingDependencyError(
        "qwen3_reranker.langchain needs langchain-core: "
        f"pip install 'qwen3-reranker[langchain]' ({error})"
    ) from error

__all__ = ["Qwen3Rerank"]


class Qwen3Rerank(Adapter, BaseDocumentCompressor):
    r"""
    Keeps the documents that a Qwen3 reranker scores best for the query, best first.

    The engine starts at the first query. Any threads and event loops may share one object. A
    copy or an unpickled one is made anew from the settings; in one process it shares the engine.
    `instruction`, `top_n`, `min_score`, `document_template` and `metadata_key` may be reassigned.

    Args:
        model: A hub name, a folder, or "demo" (a small model that the package carries). With
            `base_url` the name that the server knows it by; None takes what it lists.
        base_url: Score with this server instead of an embedded vLLM; or a list of servers.
        instruction: What makes a document a good one, in one English sentence; None takes the
            reranker's own.
        top_n: Keep so many at most, 1 or more; None keeps all.
        min_score: Keep those with at least this P(yes) in [0, 1]; None keeps all.
        max_length: The most tokens of a prompt; longer documents are cut at their end. None
            takes 8192, or the model's limit where that is lower.
        document_template: What is scored of a document, e.g. "{title}\n{page_content}": each
            {name} stands for the page content or a metadata value, as str() writes it. A key
            that a document lacks, or whose value is None, is an empty string. None scores the
            page content. The documents returned are as they came, whatever the template.
        metadata_key: The metadata key that P(yes) is written to; a value that is already there
            is replaced, or removed where scoring failed.
        on_error: What happens where scoring fails: "raise", or "keep_order", which returns the
            first `top_n` as the retriever found them, without a score, and with the reason as
            `metadata["rerank_error"]`. A later call that succeeds removes that key again.
        api_key: The server's. Like `headers`, `proxy`, `verify`, `http_client` and `engine_args`
            it is not shown in repr, str or dumps.
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

    Raises:
        pydantic.ValidationError: A `ValueError`: an argument is unknown or cannot be used.
    """

    document_template: str | None = None
    metadata_key: str = Field(default="relevance_score", min_length=1)

    @field_validator("document_template")
    @classmethod
    def _check_template(cls, template: str | None) -> str | None:
        if template is not None:
            _validate_template(template)
        return template

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """
        Return copies of the best documents, best first, with P(yes) in their metadata.

        The copies keep id and metadata; the documents given stay as they are. Blank ones come
        last with 0.0, ties keep the order given, and an empty list gives an empty one without
        starting the engine. The call is traced as a run named `Qwen3Rerank`.

        Args:
            documents: What the retriever found.
            query: What is asked.
            callbacks: Where to trace; None joins the run that is going on, if any.

        Raises:
            InputError: The query is blank, or a text cannot be used.
            PromptTooLongError: Instruction and query leave no room for a document.
            EngineError: The engine failed; no score is made up.
            ServerError: The server failed, or is none that can be used.
        """
        documents = list(documents)
        inputs, run = self._build(documents, query)
        ranking = run.invoke(inputs, {"callbacks": callbacks})
        return self._materialise(documents, ranking)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """
        Async version of `compress_documents()`: return scored copies, best first.

        Takes the same arguments, returns the same documents and raises the same errors. Cancelling
        the awaiting task stops its work.
        """
        documents = list(documents)  # the caller's may change while scores are awaited
        inputs, run = self._build(documents, query)
        ranking = await run.ainvoke(inputs, {"callbacks": callbacks})
        return self._materialise(documents, ranking)

    def _build(
        self, documents: Sequence[Document], query: str
    ) -> tuple[dict[str, Any], RunnableLambda[dict[str, Any], dict[str, Any]]]:
        """Return what the traced run shows as its inputs, and the run."""
        texts = [self._text(document) for document in documents]
        limits = self._limits()

        def rerank(_: dict[str, Any]) -> dict[str, Any]:
            return _outputs(self._reranker.rerank(query, texts, **limits))

        async def arerank(_: dict[str, Any]) -> dict[str, Any]:
            return _outputs(await self._reranker.arerank(query, texts, **limits))

        # Counts instead of texts: a tracer would store them all once more.
        inputs = {"query": query, "model": self._reranker.model, "documents": len(texts), **limits}
        return inputs, RunnableLambda(rerank, afunc=arerank, name=type(self).__name__)

    def _text(self, document: Document) -> str:
        if self.document_template is None:
            return document.page_content
        values: defaultdict[str, Any] = defaultdict(str)
        values.update((k, v) for k, v in document.metadata.items() if v is not None)
        values["page_content"] = document.page_content
        return self.document_template.format_map(values)

    def _materialise(
        self, documents: Sequence[Document], ranking: dict[str, Any]
    ) -> list[Document]:
        kept = zip(ranking["indexes"], ranking["scores"], strict=True)
        return [self._marked(documents[i], score, ranking.get("error")) for i, score in kept]

    def _marked(self, document: Document, score: float | None, error: str | None) -> Document:
        # Documents from an earlier call may carry its score or its error: neither is this call's.
        ours = (ERROR_KEY, self.metadata_key)
        metadata = {key: value for key, value in document.metadata.items() if key not in ours}
        mark = {ERROR_KEY: error} if score is None else {self.metadata_key: score}
        return document.model_copy(update={"metadata": metadata | mark})


def _outputs(hits: Sequence[Hit]) -> dict[str, Any]:
    """Return what the traced run shows as its outputs: a ranking without texts."""
    outputs: dict[str, Any] = {
        "documents": len(hits),
        "indexes": [hit.index for hit in hits],
        "scores": [score_of(hit) for hit in hits],
    }
    if hits and hits[0].error:
        outputs["error"] = hits[0].error
    return outputs


def _validate_template(template: str) -> None:
    """Raise `InputError` unless every {field} is a plain name, and there is one."""
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise InputError(
            f"document_template={template!r} cannot be read: {error}. Write {{{{ and }}}} for "
            "braces that are text"
        ) from None
    if not fields:
        raise InputError(
            f"document_template={template!r} names no field, so all documents would be equal: "
            'write e.g. "{title}\\n{page_content}"'
        )
    for _, name, spec, conversion in fields:
        # No attributes and items: a template may come from a file that others write. No format
        # specs: they fail on the empty string that stands for a missing key.
        plain = name and name == name.strip() and not name.isdigit() and not set(name) & set(".[]")
        if not plain or spec or conversion:
            raise InputError(
                f"document_template={template!r} has the field {name!r}: a field is "
                "{page_content} or the {key} of a metadata value, without attribute, item, "
                "conversion or format"
            )
