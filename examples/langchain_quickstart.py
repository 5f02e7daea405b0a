"""LangChain: BM25 finds 20 docstrings of Python's standard library, Qwen3Rerank keeps three."""

from langchain_classic.retrievers import ContextualCompressionRetriever

from qwen3_reranker.langchain import Qwen3Rerank

import stdlib_docs
from bm25 import Bm25, LangChainBm25

reranker = Qwen3Rerank(model="demo", top_n=3)  # model="Qwen/Qwen3-Reranker-0.6B" on a GPU
retriever = ContextualCompressionRetriever(
    base_compressor=reranker,
    base_retriever=LangChainBm25(index=Bm25(stdlib_docs.load()), k=20),
)
for document in retriever.invoke("How can I run a shell command and capture its output?"):
    print(f"{document.metadata['relevance_score']:.4f}  {document.metadata['name']}")
reranker.close()
