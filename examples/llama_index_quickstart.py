"""LlamaIndex: a reranker as a postprocessor of a query engine, with plain documents."""

from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM

from qwen3_reranker.llama_index import Qwen3Rerank

docs = [Document(text=t) for t in ("sorted() sorts a list.", "random.shuffle() shuffles a list.")]
index = VectorStoreIndex.from_documents(docs, embed_model=MockEmbedding(8))  # or your index
reranker = Qwen3Rerank(model="demo", top_n=1)  # or model="Qwen/Qwen3-Reranker-0.6B"
engine = index.as_query_engine(llm=MockLLM(), node_postprocessors=[reranker])  # or your LLM
print(engine.query("How do I shuffle a list in place?").source_nodes[0])
