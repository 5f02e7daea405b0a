"""
Rerank files and datasets that are too large for one call, on one machine or on a Ray cluster.

`rerank_files` reads and writes JSON Lines or Parquet, and continues a run that was stopped.
`rerank_dataset` adds a step to a pipeline of Ray Data, and `BatchReranker` is the class that does
the step's work. Only these two, and `rerank_files(ray=...)`, need Ray.
"""

from qwen3_reranker.bulk.batches import BatchReranker
from qwen3_reranker.bulk.dataset import rerank_dataset
from qwen3_reranker.bulk.files import BulkSummary, rerank_files
from qwen3_reranker.bulk.progress import BulkProgress

__all__ = ["BatchReranker", "BulkProgress", "BulkSummary", "rerank_dataset", "rerank_files"]
