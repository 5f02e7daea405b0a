"""Rerank a dataset of Ray Data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwen3_reranker.bulk.batches import BatchReranker
from qwen3_reranker.bulk.cluster import check_options, require_ray
from qwen3_reranker.bulk.resources import cluster_resources
from qwen3_reranker.bulk.settings import bulk_options, runs_engine

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["rerank_dataset"]

_ROWS_PER_BATCH = 64


def rerank_dataset(
    dataset: Dataset,
    *,
    model: str | None = None,
    base_url: str | Sequence[str] | None = None,
    query: str = "query",
    documents: str = "documents",
    text: str = "text",
    result: str | None = None,
    top_n: int | None = None,
    concurrency: int | None = None,
    num_gpus: float | None = None,
    **options: Any,
) -> Dataset:
    """
    Rerank the rows of a dataset of Ray Data, with a pool of engines or of clients of a server.

    The result is lazy, as usual with Ray Data: rows are scored while it is consumed or written. A
    row is a query with a list of documents, and gets the column `hits`: a list of
    `{"index": ..., "score": ...}`, best first. Or it is a query-document pair, and gets the column
    `score`. Every row also gets the column `error`, which is null unless the row cannot be scored.

    Args:
        dataset: The rows. It needs at least as many blocks as there are engines.
        model: The model, as for `Reranker`, on the machines of the cluster.
        base_url: The URL of a server that scores, or a list of them, as for `Reranker`.
        query: The column of the query.
        documents: The column of the list of documents. A dataset without it has pairs.
        text: The column of a pair's document.
        result: The column of the result. None is `hits` or `score`, by the kind of row.
        top_n: Keep at most this many hits per row, 1 or more. None keeps all.
        concurrency: The number of engines or clients, 1 or more. None fills the cluster: as many as
            its GPUs allow, or one per machine.
        num_gpus: The number of GPUs of each engine, 0 or more. None is 1 if the cluster has GPUs.
            An engine without a GPU gets an equal share of the CPUs, except for one CPU that is left
            to the rest of the pipeline.
        **options: Further arguments of `Reranker`, except for `on_error` and `devices`.

    Returns:
        The dataset with the new columns.

    Raises:
        InputError: An argument cannot be used.
        MissingDependencyError: Ray is not installed.
    """
    require_ray()
    settings = bulk_options(model, base_url, options, top_n=top_n)
    check_options(settings)
    arguments = {
        **settings,
        "query": query,
        "documents": documents,
        "text": text,
        "result": result,
        "top_n": top_n,
    }
    from ray.data import ActorPoolStrategy

    resources = cluster_resources(
        concurrency, num_gpus, embedded=runs_engine(settings), spare_cpus=1
    )
    return dataset.map_batches(
        BatchReranker,
        fn_constructor_kwargs=arguments,
        batch_size=_ROWS_PER_BATCH,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=resources.concurrency),
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
    )
