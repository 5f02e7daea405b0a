"""
Search the Python standard library: BM25 finds 20 docstrings, Qwen3Rerank keeps the best three.

This runs the embedded vLLM with the demo model that comes with the package, first through LangChain
and then through LlamaIndex. Then it measures both stages on questions that the demo model was not
trained on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnablePassthrough

from qwen3_reranker import Reranker, langchain, llama_index

import stdlib_docs
from bm25 import Bm25, LangChainBm25, LlamaIndexBm25

QUESTIONS = [
    "How do I unzip an archive into a folder?",  # README shows this one
    "How can I run a shell command and capture its output?",
    "wait until several coroutines are done and collect their results",
    "I need the most common words of a list with their counts",
]
HELD_OUT = Path(__file__).with_name("held_out_questions.jsonl")


def main() -> None:
    """Run the demo."""
    index = Bm25(stdlib_docs.load())
    print(f"{len(index.docs)} documents: the docstrings of Python's standard library.")
    print("Starting the embedded vLLM with the demo model ...", flush=True)
    # Compiling would take longer than scoring everything below.
    with Reranker("demo", engine_args={"enforce_eager": True}).warm_up() as reranker:
        ask_through_langchain(index, reranker)
        ask_through_llama_index(index, reranker)
        measure(index, reranker)
    print(
        "\nThis was the demo model, with only five million parameters. To use a released model,\n"
        "preferably on a GPU, change one argument:\n"
        '    Qwen3Rerank(model="Qwen/Qwen3-Reranker-0.6B", top_n=3)'
    )


def ask_through_langchain(index: Bm25, reranker: Reranker) -> None:
    """Show a retriever's documents before and after an LCEL step."""
    retriever = LangChainBm25(index=index, k=20)
    compressor = langchain.Qwen3Rerank(reranker=reranker, top_n=3)
    chain = {"query": RunnablePassthrough(), "documents": retriever} | compressor.as_runnable()
    for question in QUESTIONS:
        found = [(d.metadata["name"], d.metadata["bm25"]) for d in retriever.invoke(question)]
        kept = [(d.id, d.metadata["relevance_score"]) for d in chain.invoke(question)]
        show("LangChain", question, found, kept)


def ask_through_llama_index(index: Bm25, reranker: Reranker) -> None:
    """Show a retriever's nodes before and after the postprocessor."""
    retriever = LlamaIndexBm25(index, k=20)
    postprocessor = llama_index.Qwen3Rerank(reranker=reranker, top_n=3)
    for question in QUESTIONS:
        nodes = retriever.retrieve(question)
        kept = postprocessor.postprocess_nodes(nodes, query_str=question)
        show(
            "LlamaIndex",
            question,
            [(n.node_id, n.score) for n in nodes],
            [(n.node_id, n.score) for n in kept],
        )


Ranking = list[tuple[Any, float | None]]


def show(through: str, question: str, found: Ranking, kept: Ranking) -> None:
    """Print the retriever's first five beside the three that were kept."""
    print(f"\n[{through}] {question}")
    print(f"    {'BM25':<52}Qwen3Rerank (demo)")
    for place in range(5):
        left = f"{found[place][1]:6.2f}  {found[place][0]}" if place < len(found) else ""
        right = f"{kept[place][1]:.4f}  {kept[place][0]}" if place < len(kept) else ""
        print(f"    {left:<52}{right}".rstrip())


def measure(index: Bm25, reranker: Reranker) -> None:
    """Print hit@1 and MRR of BM25's top 20, as found and as reranked."""
    questions = [json.loads(line) for line in HELD_OUT.read_text("utf-8").splitlines()]
    found = [[doc for doc, _ in index.search(q["question"], 20)] for q in questions]
    before = [[doc.name for doc in docs] for docs in found]
    hits = reranker.rerank_many(
        [(q["question"], [d.text for d in docs]) for q, docs in zip(questions, found, strict=True)]
    )
    after = [[docs[h.index].name for h in row] for docs, row in zip(found, hits, strict=True)]
    print(f"\n{len(questions)} held-out questions, BM25's top 20:   hit@1    MRR")
    for name, rankings in (("as BM25 found them", before), ("reranked (demo model)", after)):
        places = [
            next((i for i, name in enumerate(names, 1) if name in q["answers"]), None)
            for q, names in zip(questions, rankings, strict=True)
        ]
        hit = sum(place == 1 for place in places) / len(places)
        mrr = sum(1 / place for place in places if place) / len(places)
        print(f"    {name:<38}{hit:6.3f}  {mrr:6.3f}")


if __name__ == "__main__":
    main()
