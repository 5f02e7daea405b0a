"""
Measure the latency and the throughput of a reranker under load.

`LoadTest` sends requests to an embedded engine or to a server, and `BenchResult` holds what was
measured, in the terms of `vllm bench serve`.
"""

from qwen3_reranker.bench.comparison import Comparison, Row, compare
from qwen3_reranker.bench.load_test import LoadTest
from qwen3_reranker.bench.results import BenchResult, Failure
from qwen3_reranker.bench.samples import Sample

__all__ = ["BenchResult", "Comparison", "Failure", "LoadTest", "Row", "Sample", "compare"]
