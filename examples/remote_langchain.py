"""LangChain with a server: BM25 finds 20 docstrings of Python's library, and three are kept."""

import sys

from langchain_core.runnables import RunnablePassthrough

from qwen3_reranker.langchain import Qwen3Rerank

import stdlib_docs
from bm25 import Bm25, LangChainBm25

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
reranker = Qwen3Rerank(base_url=url, top_n=3)
print(reranker.describe())
retriever = LangChainBm25(index=Bm25(stdlib_docs.load()), k=20)
chain = {"query": RunnablePassthrough(), "documents": retriever} | reranker.as_runnable()
for document in chain.invoke("How can I run a shell command and capture its output?"):
    print(f"{document.metadata['relevance_score']:.4f}  {document.metadata['name']}")
reranker.close()
