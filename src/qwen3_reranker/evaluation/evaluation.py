"""Compare rerankers with the retriever's order, and with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen3_reranker.caching import ScoreCache
from qwen3_reranker.closing import closed_after
from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.curves import Judged, headroom
from qwen3_reranker.evaluation.dataset import Dataset
from qwen3_reranker.evaluation.first_stage import DEFAULT_DEPTH
from qwen3_reranker.evaluation.metrics import DEFAULT_METRICS, parse_metrics
from qwen3_reranker.evaluation.recommendation import recommend
from qwen3_reranker.evaluation.report import Report
from qwen3_reranker.evaluation.result_builder import ResultBuilder
from qwen3_reranker.evaluation.results import DatasetSummary, SystemResult
from qwen3_reranker.evaluation.score_file import ScoreFile, default_score_file
from qwen3_reranker.evaluation.scoring import CandidateScores, score_candidates
from qwen3_reranker.evaluation.stored_scores import EvaluationCache, check_stored_scores
from qwen3_reranker.evaluation.systems import ScoredBy, System, name_systems
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.selection import TokenCounter
from qwen3_reranker.token_counting import count_tokens, validate_counter

__all__ = ["evaluate", "with_candidates"]


def evaluate(
    dataset: Dataset,
    systems: System | Reranker | Iterable[System | Reranker],
    *,
    metrics: Iterable[str] = DEFAULT_METRICS,
    min_grade: int = 1,
    precision: float = 0.8,
    token_counter: TokenCounter | None = None,
    cache: str | Path | ScoreCache = "default",
    progress: bool = False,
) -> Report:
    """
    Compare rerankers with the retriever's order.

    Each pair of a query and a document is scored once per reranker and instruction: systems that
    differ only in `depth` share the scores. The scores of a query are stored on disk as soon as all
    of its documents are scored, so an evaluation that was stopped goes on with the queries that it
    had not finished, and a second one is a matter of seconds.

    Args:
        dataset: Queries, candidates and judgments. If it has no candidates, BM25 finds 100 per
            query, or as many as a system with a larger `depth` reranks. Queries without a relevant
            document are scored, but they count only for what scores say (thresholds, calibration),
            because no order of their documents is better than another.
        systems: What to compare. A `Reranker` stands for itself, at full depth.
        metrics: The names of the metrics, see `Metric`. The first decides about recommendations.
        min_grade: The lowest grade that counts as relevant, 1 or more. nDCG uses the grades
            themselves.
        precision: The share of relevant documents for which `min_score` is recommended, in (0, 1].
        token_counter: Returns the number of tokens that a document has for the LLM that reads it.
            It is called for one document before anything is scored, and for the others afterward.
            None counts with the tokenizer of the first system's model, and leaves tokens out if
            it is not on this machine.
        cache: Where scores are stored: a file, or a cache as `Reranker` takes it. "default" is a
            file in the user's folder for caches. Up to 30 stored scores of a server are computed
            again at first, because the weights behind a model's name may have changed. A `Reranker`
            among the systems uses its own cache, which is not checked.
        progress: Whether to show a progress bar with documents per second and the time left, on
            standard error.

    Returns:
        The report, whose first system is the retriever's order.

    Raises:
        InputError: An argument cannot be used, the dataset has no query with a relevant document,
            or the cache has scores of other weights than a server has now.
        RerankerError: Scoring failed. The scores that are known already are stored.

    Example:
        >>> from qwen3_reranker.evaluation import Dataset, System, evaluate
        >>> dataset = Dataset(
        ...     {"1": "copy a folder"},
        ...     {
        ...         "a": "random.shuffle(x): Shuffle list x in place, and return None.",
        ...         "b": "shutil.copytree(src, dst): Recursively copy a directory tree.",
        ...     },
        ...     judgments={"1": {"b": 1}},
        ...     candidates={"1": ["a", "b"]},
        ... )
        >>> report = evaluate(dataset, System(model="demo"), metrics=["MRR@10"], cache={})
        >>> print(report.table())
                   MRR@10
        retriever   0.500
        demo        1.000
    """
    named = name_systems(systems)
    wanted = parse_metrics(metrics)
    if type(min_grade) is not int or min_grade < 1:
        raise InputError(f"min_grade={min_grade!r}: give a whole number of at least 1")
    if not 0 < precision <= 1:
        raise InputError(f"precision={precision!r}: give a share in (0, 1]")
    validate_counter(token_counter)
    if token_counter is not None:
        # So that a function that fails, or does not count, costs no scores.
        count_tokens(token_counter, next(iter(dataset.documents.values()), ""))
    measured = [
        query
        for query, grades in dataset.judgments.items()
        if any(grade >= min_grade for grade in grades.values())
    ]
    if not measured:
        raise InputError(
            f"{dataset.name} has no query with a document of grade {min_grade} or more"
        )
    dataset = with_candidates(dataset, (system.depth for system in named))
    assert dataset.candidates is not None
    relevant = set(measured)
    candidates = {query: dataset.candidates.get(query, []) for query in dataset.judgments}
    judged = Judged(
        {query: candidates[query] for query in measured},
        dataset.judgments,
        wanted,
        min_grade,
        {query: ids for query, ids in candidates.items() if query not in relevant},
    )
    scores, model_counter = _score(dataset, judged.scored, named, cache, progress=progress)
    results = ResultBuilder(dataset, judged, token_counter or model_counter)
    found = [results.retriever(), *(results.system(s, scores[s.scored_by]) for s in named)]

    def at_depth(result: SystemResult, depth: int) -> SystemResult:
        system = next(system for system in named if system.name == result.name)
        return results.system(replace(system, depth=depth), scores[system.scored_by])

    possible = headroom(judged, [system.depth for system in named if system.depth is not None])
    return Report(
        _summary(dataset, judged),
        [str(metric) for metric in wanted],
        measured,
        found,
        possible,
        recommend(found, possible, str(wanted[0]), precision, at_depth),
    )


def with_candidates(dataset: Dataset, depths: Iterable[int | None]) -> Dataset:
    """
    Return the dataset with candidates, which BM25 finds if it has none.

    Their number does not depend on a depth below the default one, so that the retriever's own order
    is measured in full however few of its documents a system reranks.

    Args:
        dataset: The dataset.
        depths: How many candidates the systems rerank. None stands for all.
    """
    if dataset.candidates is not None:
        return dataset
    return dataset.retrieve("bm25", depth=max([DEFAULT_DEPTH, *(depth or 0 for depth in depths)]))


def _summary(dataset: Dataset, judged: Judged) -> DatasetSummary:
    return DatasetSummary(
        dataset.name,
        dataset.first_stage,
        queries=len(judged.candidates),
        queries_without_relevant=len(judged.without_relevant),
        queries_without_candidates=sum(not ids for ids in judged.candidates.values()),
        candidates=sum(map(len, judged.scored.values())),
        min_grade=judged.min_grade,
    )


def _score(
    dataset: Dataset,
    candidates: Mapping[str, Sequence[str]],
    systems: Sequence[System],
    cache: str | Path | ScoreCache,
    *,
    progress: bool,
) -> tuple[dict[ScoredBy, dict[str, CandidateScores]], TokenCounter | None]:
    """Return the scores by `System.scored_by`, and what counts tokens for the first system."""
    depths: dict[ScoredBy, int | None] = {}
    for system in systems:
        known = depths.get(system.scored_by, 0)
        deepest = None if known is None or system.depth is None else max(known, system.depth)
        depths[system.scored_by] = deepest
    total = sum(len(ids[:depth]) for depth in depths.values() for ids in candidates.values())
    scores: dict[ScoredBy, dict[str, CandidateScores]] = {}
    counter: TokenCounter | None = None
    with _opened(cache, systems) as store, _counting(total, shown=progress) as advance:
        # One reranker after the other, with all of its instructions, so that only one engine runs.
        for built_from in dict.fromkeys(system.built_from for system in systems):
            chosen = [system for system in systems if system.built_from == built_from]
            with _reranker(chosen[0], store) as reranker:
                if chosen[0] is systems[0]:
                    counter = _token_counter(reranker)
                for system in chosen:
                    if system.scored_by in scores:
                        continue
                    settings: dict[str, Any] = {
                        "instruction": system.instruction,
                        "depth": depths[system.scored_by],
                    }
                    if system.base_url is not None:
                        check_stored_scores(store, reranker, dataset, candidates, **settings)
                    scores[system.scored_by] = score_candidates(
                        reranker, dataset, candidates, on_progress=advance, **settings
                    )
    return scores, counter


def _token_counter(reranker: Reranker) -> TokenCounter | None:
    try:
        return reranker.token_counter()
    except InputError:  # a server's tokenizer that is not on this machine
        return None


@contextmanager
def _opened(cache: str | Path | ScoreCache, systems: Sequence[System]) -> Iterator[EvaluationCache]:
    """Yield the cache for the rerankers that are made here. The others have their own."""
    with ExitStack() as stack:
        store: ScoreCache
        if all(system.reranker is not None for system in systems):
            store = {}
        elif isinstance(cache, (str, Path)):
            path = default_score_file() if cache == "default" else cache
            store = stack.enter_context(ScoreFile(path))
        else:
            store = cache
        yield stack.enter_context(closing(EvaluationCache(store)))


@contextmanager
def _reranker(system: System, cache: ScoreCache) -> Iterator[Reranker]:
    """Yield the reranker of a system, and close it if it was made here."""
    if system.reranker is not None:
        yield system.reranker
        return
    made = Reranker(
        system.model,
        base_url=system.base_url,
        max_length=system.max_length,
        cache=cache,
        **system.options,
    )
    with closed_after(made) as reranker:
        yield reranker


@contextmanager
def _counting(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a progress bar of documents, if one is to be shown."""
    if not shown:
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="doc") as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
