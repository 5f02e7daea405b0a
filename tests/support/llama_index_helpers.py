"""What the tests of the LlamaIndex postprocessor share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from llama_index.core.schema import NodeWithScore, TextNode

QUERY = "read the rows of a csv file"
TEXTS = {
    "Lock": "threading.Lock()\n\nA lock object that excludes other threads.",
    "makedirs": "os.makedirs(name)\n\nCreate a leaf directory and all intermediate ones.",
    "reader": "csv.reader(csvfile)\n\nReturn a reader object that will process lines from the "
    "given csvfile, row by row.",
    "dumps": "json.dumps(obj)\n\nSerialize obj to a JSON formatted str.",
    "sqrt": "math.sqrt(x)\n\nReturn the square root of x.",
}

Rerank = Callable[..., Awaitable[list[NodeWithScore]]]


def make_nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(id_=name, text=text, metadata={"place": place, "nested": [place]}),
            score=0.9 - place / 10,
        )
        for place, (name, text) in enumerate(TEXTS.items())
    ]


def ids(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [item.node_id for item in nodes]


def scores_of(nodes: Sequence[NodeWithScore]) -> list[float]:
    return [item.get_score(raise_error=True) for item in nodes]
