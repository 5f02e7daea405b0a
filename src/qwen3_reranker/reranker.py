"""The reranker: texts in, ranked hits out. Both adapters use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, get_args

from qwen3_reranker import event_loop
from qwen3_reranker.answer import Answer, aselect, select
from qwen3_reranker.caching import ScoreCache
from qwen3_reranker.embedded.engine_settings import EngineChoice
from qwen3_reranker.errors import SCORING_FAILURES, InputError, OnError
from qwen3_reranker.model.prompt import Prompt
from qwen3_reranker.options import document_options
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.ranking import (
    Ranking,
    ScoringJob,
    scores_of,
    validate_instruction,
    validate_query,
    validate_scores,
)
from qwen3_reranker.redaction import conceal
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
from qwen3_reranker.scorer import Scorer, Scores
from qwen3_reranker.scorer_factory import DEFAULT_MODEL, RerankerOptions, make_scorer
from qwen3_reranker.scorer_owner import OwnsScorer
from qwen3_reranker.selection import Selection, SelectionOptions
from qwen3_reranker.streaming.methods import RanksStreams
from qwen3_reranker.tally import Tally

__all__ = ["DEFAULT_MODEL", "Reranker"]


@document_options(LongDocumentOptions, ConnectionOptions, ServerOptions)
class Reranker(OwnsScorer, RanksStreams):
    """
    Score documents for a query with a Qwen3 reranker, and rank them.

    The engine starts at the first score, or when `warm_up()` is called. Two rerankers with equal
    settings share one engine, which stops when the last of them is closed. All methods can be
    called from any thread and any event loop at the same time; concurrent calls are batched
    together.

    Args:
        model: A hub name, a folder, or "demo" (a small model that is part of this package). None
            uses `DEFAULT_MODEL`. With `base_url` it is the name of the model on the server, and
            None uses the model that the server lists.
        base_url: The URL of a server that scores, instead of an embedded engine: its root, `/v1`,
            or the full path of an endpoint. A list names several servers of the same model. The
            server's protocol and prompt template are detected at the first call, see `describe`.
        instruction: What makes a document a good match, in one English sentence. None uses
            `DEFAULT_INSTRUCTION`, the model card's. The card reports that an instruction written
            for the task improves results by 1 % to 5 %.
        max_length: The maximum number of tokens in a prompt, including the template. Longer
            documents are truncated at the end. None uses 8192, or the model's limit if that is
            lower.
        on_error: How the rerank methods handle scoring failures: "raise", or "keep_order", which
            issues a `RerankerWarning` and returns the documents in the order given, limited only by
            `top_n` and `token_budget`, without scores and with the reason in each hit's `error`.
            Arguments that cannot be used always raise.
        engine: What runs the embedded model: "vllm" in a process of its own, "transformers" in
            this process on CUDA, MPS or the CPU, or "auto", which is vLLM on Linux and
            transformers on macOS and Windows, for which vLLM has no wheels.
        engine_args: Arguments of the engine, which replace those that this package chooses. The
            values must be representable in JSON, and None stands for an argument that is left out.
            With vLLM they are those of its `EngineArgs`; with transformers, `device`, `dtype`,
            `max_num_batched_tokens`, `revision` and `hf_token`.
        engine_python: The Python interpreter whose vLLM runs the engine, such as
            "/opt/vllm/bin/python". It need not have this package. None uses the environment
            variable QWEN3_RERANKER_ENGINE_PYTHON, the running interpreter if it has vLLM, or the
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
            two seconds to start. The environment variable QWEN3_RERANKER_QUIET suppresses it for
            all rerankers. If the program has configured logging, the notice goes to the logger
            "qwen3_reranker" (INFO) instead.
        scorer: A `Scorer` that computes the scores, instead of an engine or a server. It is closed
            together with the reranker.
        cache: A store for scores: a dict, `cachetools.LRUCache`, `diskcache.Cache` or any other
            object that has `get` and supports item assignment. Rerankers may share one. Entries
            for remote models are keyed by URL, model name and request settings, and are not
            invalidated when the weights behind the name change. Servers that differ, for example
            in `max_length`, are not cached. A `scorer` must override `fingerprint`. If the store
            fails, scores are computed and not stored, with a `RerankerWarning`.
        **options: The options for long documents, see `LongDocumentOptions`, and those for
            `base_url`, see `ServerOptions`. `timeout` also applies without a server.

    Without `base_url`, `timeout` is the number of seconds (default 60, at least 1) without a sign
    of life after which a busy engine process is ended; a start always has at least 60. An engine
    that computes gives such signs, so this does not limit the duration of a call. No other option
    of `ServerOptions` can be used without `base_url`.

    Raises:
        InputError: An argument cannot be used, or does not apply to this backend.
        TypeError: An argument has an unknown name.

    Example:
        >>> from qwen3_reranker import Reranker
        >>> texts = [
        ...     "random.shuffle(x): Shuffle list x in place, and return None.",
        ...     "shutil.copytree(src, dst): Recursively copy a directory tree.",
        ... ]
        >>> with Reranker("demo") as reranker:
        ...     for hit in reranker.rerank("copy a folder", texts):
        ...         print(f"{hit.score:.1f} {hit.text}")
        0.8 shutil.copytree(src, dst): Recursively copy a directory tree.
        0.0 random.shuffle(x): Shuffle list x in place, and return None.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        instruction: str | None = None,
        max_length: int | None = None,
        on_error: OnError = "raise",
        engine: EngineChoice = "auto",
        engine_args: Mapping[str, Any] | None = None,
        engine_python: str | None = None,
        devices: Sequence[int | str] | None = None,
        check: bool = True,
        quiet: bool = False,
        scorer: Scorer | None = None,
        cache: ScoreCache | None = None,
        **options: Unpack[RerankerOptions],
    ) -> None:
        # First of all, so that no traceback of what follows shows a key.
        settings = conceal({"engine_args": engine_args, **options})
        del engine_args, options
        validate_instruction(instruction)
        if on_error not in get_args(OnError):
            raise InputError(f"on_error={on_error!r}: give 'raise' or 'keep_order'")
        settings |= {"model": model, "base_url": base_url, "max_length": max_length}
        settings |= {"engine": engine, "engine_python": engine_python, "devices": devices}
        self._scorer = make_scorer(scorer, cache, check=check, quiet=quiet, **settings)
        self._on_error = on_error
        self._tally = Tally()
        self._closed = False
        self.instruction = instruction

    @document_options(SelectionOptions)
    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> Ranking:
        """
        Return the documents that match the query, best first.

        Args:
            query: The question or search text; not blank.
            documents: The texts to score. Equal texts are scored once. Blank texts are not scored:
                they come last, with 0.0.
            top_n: Keep at most this many documents, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for this call.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.
            **selection: Which documents to keep besides, see `SelectionOptions`.

        Returns:
            A list with one `Hit` per document kept, by descending score. Ties keep the input order.
            Its `usage` says what the call cost. No documents give an empty list and start nothing.

        Raises:
            InputError: An argument cannot be used.
            PromptTooLongError: Instruction and query leave no room for a document.
            ClosedError: The reranker is closed, or was closed while the call was waiting.
            EngineError: The engine failed.
            ServerError: The server failed, or does not serve a model that can be used.
            ScoreError: The answer was not one probability per document.
        """
        kept = Selection(top_n=top_n, min_score=min_score, **selection)
        job = self._prepare(query, documents)
        with self._span(query, job, top_n).ending() as span:
            answer = event_loop.run(self._score(query, job, instruction, kept))
            return span.record(select(job, answer))

    @document_options(SelectionOptions)
    async def arerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> Ranking:
        """
        Return the documents that match the query, best first; the async version of `rerank()`.

        Canceling the awaiting task takes its requests out of the engine.

        Args:
            query: The question or search text; not blank.
            documents: The texts to score. Blank texts are not scored: they come last, with 0.0.
            top_n: Keep at most this many documents, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for this call.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.
            **selection: Which documents to keep besides, see `SelectionOptions`.

        Returns:
            A list with one `Hit` per document kept, by descending score, and the call's `usage`.
            Ties keep the input order.

        Raises:
            RerankerError: An argument cannot be used, or scoring failed, as in `rerank()`.
        """
        kept = Selection(top_n=top_n, min_score=min_score, **selection)
        job = self._prepare(query, documents)
        with self._span(query, job, top_n).ending() as span:
            answer = await event_loop.arun(self._score(query, job, instruction, kept))
            return span.record((await aselect(job, answer)).delivered())

    def score(
        self, query: str, documents: Sequence[str], *, instruction: str | None = None
    ) -> list[float]:
        """
        Return P(yes) of each document, in input order.

        Failures always raise, whatever `on_error` says.

        Args:
            query: The question or search text; not blank.
            documents: The texts to score. Blank texts are not scored, and get 0.0.
            instruction: Replaces the reranker's own instruction for this call.

        Returns:
            One float per document, in [0, 1].

        Raises:
            InputError: An argument cannot be used.
            PromptTooLongError: Instruction and query leave no room for a document.
            ClosedError: The reranker is closed, or was closed while the call was waiting.
            EngineError: The engine failed.
            ServerError: The server failed, or does not serve a model that can be used.
            ScoreError: The answer was not one probability per document.
        """
        job = self._prepare(query, documents)
        with self._span(query, job, name="score").ending():
            answer = event_loop.run(self._score(query, job, instruction, Selection()))
            return scores_of(job, answer.scores)

    async def ascore(
        self, query: str, documents: Sequence[str], *, instruction: str | None = None
    ) -> list[float]:
        """
        Return P(yes) of each document, in input order; the async version of `score()`.

        Canceling the awaiting task takes its requests out of the engine.

        Args:
            query: The question or search text; not blank.
            documents: The texts to score. Blank texts are not scored, and get 0.0.
            instruction: Replaces the reranker's own instruction for this call.

        Returns:
            One float per document, in [0, 1].

        Raises:
            RerankerError: An argument cannot be used, or scoring failed, as in `score()`.
        """
        job = self._prepare(query, documents)
        with self._span(query, job, name="score").ending():
            answer = await event_loop.arun(self._score(query, job, instruction, Selection()))
            return scores_of(job, answer.scores)

    def prompt(self, query: str, document: str, instruction: str | None = None) -> Prompt:
        """
        Return the prompt that the model reads for one document, without scoring it.

        An embedded engine is not started. A server is detected if it has not been yet. With
        `long_documents="passages"` it is the prompt of the document's first passage.

        Args:
            query: The question or search text; not blank.
            document: The text to score.
            instruction: Replaces the reranker's own instruction.

        Returns:
            The prompt as text and as token ids, and whether the document was truncated.

        Raises:
            InputError: An argument cannot be used.
            PromptTooLongError: Instruction and query leave no room for a document.
            CheckpointError: The embedded model is not a Qwen3 reranker.
            ServerError: The server cannot be reached or detected.
        """
        validate_query(query)
        ScoringJob([document])  # validates the document
        return self._scorer.prompt(query, document, self._instruction(instruction))

    def _instruction(self, instruction: str | None) -> str | None:
        """Return the instruction of a call: its own, or the reranker's."""
        chosen = self.instruction if instruction is None else instruction
        validate_instruction(chosen)
        return chosen

    def _prepare(self, query: str, documents: Sequence[str]) -> ScoringJob:
        validate_query(query)
        self._check_open()
        return ScoringJob(documents)

    async def _score(
        self, query: str, job: ScoringJob, instruction: str | None, selection: Selection
    ) -> Answer:
        """
        Return the scores of a job, or the error that `on_error` prevents from being raised.

        Also return the selection, with a function that counts tokens if it needs one.
        """
        instruction = self._instruction(instruction)
        call = self._tally.call(len(job.documents))
        try:
            with call:
                if selection.lacks_counter and job.documents:
                    selection = replace(selection, token_counter=await self._token_counter())
                scores = Scores([], [])
                if job.texts:  # do not start an engine for nothing
                    scores = await self._scorer.score(query, job.texts, instruction)
                scores = validate_scores(scores, len(job.texts))
                return Answer(scores, selection, call.complete(scores))
        except SCORING_FAILURES as error:
            if self._on_error == "raise":
                raise
            return Answer(error, selection, call.usage)
