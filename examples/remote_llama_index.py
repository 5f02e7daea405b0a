"""LlamaIndex with a server: BM25 finds 20 docstrings of Python's library, and three are kept."""

import sys

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine

from qwen3_reranker.llama_index import Qwen3Rerank

import stdlib_docs
from bm25 import Bm25, LlamaIndexBm25

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
reranker = Qwen3Rerank(base_url=url, top_n=3)
print(reranker.describe())
engine = RetrieverQueryEngine.from_args(
    LlamaIndexBm25(Bm25(stdlib_docs.load()), k=20),
    llm=MockLLM(),  # any LLM
    node_postprocessors=[reranker],
)
answer = engine.query("How can I run a shell command and capture its output?")
for source in answer.source_nodes:
    print(f"{source.score:.4f}  {source.node_id}")
reranker.close()
