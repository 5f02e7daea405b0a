"""LangChain: a reranker as a step of an LCEL chain, with plain documents."""

from langchain_core.documents import Document
from langchain_core.runnables import RunnablePassthrough

from qwen3_reranker.langchain import Qwen3Rerank

docs = [Document(t) for t in ("sorted() sorts a list.", "random.shuffle() shuffles a list.")]
reranker = Qwen3Rerank(model="demo", top_n=1)  # or model="Qwen/Qwen3-Reranker-0.6B"
retrieve = {"query": RunnablePassthrough(), "documents": lambda _: docs}  # or your retriever
chain = retrieve | reranker.as_runnable()
print(chain.invoke("How do I shuffle a list in place?"))
