"""
Where the demo model starts from: meanings from a small sentence encoder, and matching wired in.

Training a network of this size from random weights takes far more pairs than a CPU can do before
it compares a passage's words with the question's. So the start is built by hand:

- embeddings: all-MiniLM-L6-v2's vectors of the vocabulary's strings, whitened, longer for rarer
  tokens; a few dimensions beside them are flags;
- layer 0: every token learns whether it comes after `<Query` and after `<Document`, and what the
  token before it is;
- layer 1: a passage's tokens look for the like in the question, and among the tokens before them
  in the passage; without one they attend to `<|im_start|>`, whose value is nothing;
- the last layer: the last position counts the question's words found in the passage, each once
  and the rarer ones more, less for longer passages, and multiplies the mean meanings of both.

All of it is only a start: everything is trained afterwards.
"""

from __future__ import annotations

import math

import torch
from demo_network import Network
from torch import Tensor
from torch.nn import functional as F

CONTENT = 160  # dimensions 0..159 hold a token's meaning
FOUND = range(160, 182)  # what a passage's token found in the question
BEFORE = range(184, 226)  # the meaning of the token before
HARD, ALSO, THIRD, AGAIN = range(226, 230)  # found in the question (three views); seen before
AFTER_QUERY, AFTER_DOCUMENT, ANSWER, START, QUERY, DOCUMENT, RARITY, ONE = range(248, 256)
GATHERED = 60
# Layer 1's heads compare a view each; in each a token's meaning is equally long.
VIEWS = (range(42), range(42, 84), range(84, 126), range(126, 160))


def meanings(texts: list[str], counts: Tensor, encoder_path: str) -> Tensor:
    """Return [tokens, CONTENT] whitened sentence-encoder vectors, longer for rarer tokens."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(encoder_path, device="cpu")
    words = [text.strip() or text for text in texts]
    unique = sorted(set(words))
    vectors = encoder.encode(unique, batch_size=256, convert_to_tensor=True).float()
    index = {word: number for number, word in enumerate(unique)}
    table = vectors[[index[word] for word in words]]
    weight = (counts + 1).sqrt()[:, None]
    table = table - (table * weight).sum(0) / weight.sum()
    _, values, axes = torch.linalg.svd(table * weight / weight.norm(), full_matrices=False)
    table = table @ axes[:CONTENT].T / (values[:CONTENT] + 0.1 * values[0]) ** 0.5
    return table / table.norm(dim=1, keepdim=True)


def rarity(counts: Tensor) -> Tensor:
    """Return 0 for tokens that are every fiftieth to 1 for those rarer than one in 20,000."""
    share = (counts + 1) / counts.sum()
    return ((-share.log10() - 1.7) / 2.6).clamp(0, 1)


def build(network: Network, content: Tensor, counts: Tensor, marks: dict[str, int]) -> None:
    """Set all the weights; `marks` holds the ids of the template's tokens that flags stand for."""
    with torch.no_grad():
        _embeddings(network, content, counts, marks)
        for layer in network.layers:
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                layer.self_attn[name].weight.normal_(std=0.01)
            for name in ("gate_proj", "up_proj", "down_proj"):
                layer.mlp[name].weight.normal_(std=0.05 if name != "down_proj" else 0.002)
        _regions(network)
        _matching(network, _flag_size(network))
        _gathering(network)


def _embeddings(network: Network, content: Tensor, counts: Tensor, marks: dict[str, int]) -> None:
    table = network.embed_tokens.weight
    table.normal_(std=0.01)
    for view in VIEWS:
        table[:, list(view)] = F.normalize(content[:, list(view)], dim=1) * 1.3
    table[:, AFTER_QUERY:] = 0
    table[:, ONE] = 1.0
    table[:, RARITY] = rarity(counts)
    for name, dimension in {"start": START, "query": QUERY, "document": DOCUMENT}.items():
        table[marks[name]] = 0
        table[marks[name], ONE] = 1.0
        table[marks[name], dimension] = 6.0
    table[marks["colon"], :CONTENT] = 0  # it is in every question and every passage
    table[marks["yes"], :] = table[marks["no"], :] = (table[marks["yes"]] + table[marks["no"]]) / 2
    table[marks["yes"], ANSWER], table[marks["no"], ANSWER] = 0.5, -0.5


def _flag_size(network: Network) -> float:
    """Return how large ONE is in an ordinary token after the normalisation."""
    x = network.embed_tokens.weight
    return float((x[:, ONE] / x.pow(2).mean(1).sqrt()).median())


def _dims(network: Network) -> tuple[list[int], list[int]]:
    """Return a head's dimensions that turn with the position, and those that hardly do."""
    half = network.shape.head_dim // 2
    slow = [i for i in range(half) if network.frequencies[i] < 1e-3]
    return list(range(4)), [*slow, *(i + half for i in slow)]


def _scale(network: Network, layer: int, sharpness: float) -> None:
    attention = network.layers[layer].self_attn
    for name in ("q_norm", "k_norm"):
        attention[name].weight.fill_(sharpness**0.5)


def _regions(network: Network) -> None:
    """Layer 0: heads 0 and 1 tell the regions, head 2 (and 3, at random) the token before."""
    size, half = network.shape.head_dim, network.shape.head_dim // 2
    attention = network.layers[0].self_attn
    q, k = attention["q_proj"].weight, attention["k_proj"].weight
    v, o = attention["v_proj"].weight, attention["o_proj"].weight
    _scale(network, 0, 8.0)
    fast, slow = _dims(network)
    for head, (mark, flag) in enumerate(((QUERY, AFTER_QUERY), (DOCUMENT, AFTER_DOCUMENT))):
        base = head * size
        for matrix in (q, k, v):
            matrix[base : base + size] *= 0.2
        a, b = base + slow[-1], base + slow[-2]
        q[a, ONE], q[b, ONE] = 1.0, -1.0
        k[a, mark], k[b, ONE] = 1.0, 0.5
        v[base, mark] = 1.0
        o[:, base] = 0
        o[flag, base] = 0.06 if flag == AFTER_QUERY else 0.09
    base = 2 * size
    for matrix in (q, k, v):
        matrix[base : base + size] *= 0.2
    for i in fast:
        angle = float(network.frequencies[i])
        k[base + i, ONE] = 1.0
        q[base + i, ONE], q[base + half + i, ONE] = math.cos(angle), -math.sin(angle)
    for i, dimension in enumerate(BEFORE):
        v[base + i, i] = 0.2
        o[dimension, base + i] = 1.0


def _matching(network: Network, one: float) -> None:
    """Layer 1: three heads look for a token in the question, one for the same token before it."""
    size = network.shape.head_dim
    attention = network.layers[1].self_attn
    q, k = attention["q_proj"].weight, attention["k_proj"].weight
    v, o = attention["v_proj"].weight, attention["o_proj"].weight
    _scale(network, 1, 6.0)
    _, slow = _dims(network)
    flags, places = slow[-2:], slow[:-2]
    width = len(places)
    for head, out in enumerate((HARD, ALSO, THIRD, AGAIN)):
        base = head * size
        for matrix in (q, k, v):
            matrix[base : base + size] *= 0.1
        view = list(range(head * width, (head + 1) * width)) if head < 3 else list(range(width))
        other = view if head < 3 else list(BEFORE)[:width]
        for place, asks, has in zip(places, view, other, strict=True):
            q[base + place, asks] = 1.0
            k[base + place, has] = 1.0
        rows = network.embed_tokens.weight[:, view].norm(dim=1)
        norm = one * float(rows.quantile(0.9))
        # Beside the content (of length `norm` in a rare token) a key says "I am of the question"
        # (or, for the last head, of the passage), and <|im_start|> is as good as a token there
        # with cosine `limit`.
        limit = 0.65
        region, start = base + flags[0], base + flags[1]
        if head < 3:
            k[region, AFTER_QUERY] = 1.6 * norm / one
            k[region, AFTER_DOCUMENT] = -1.6 * norm / one
        else:
            k[region, AFTER_DOCUMENT] = 1.6 * norm / one
        k[region, ONE] = -0.8 * norm / one
        k[start, START] = norm / one
        q[region, ONE] = 0.6 * norm / one
        q[start, ONE] = (limit + 0.48) / 1.28 * norm / one
        v[base, ONE], v[base, START] = 1.0 / one, -1.0 / 6 / one
        o[out, base] = 1.0
        if head < 3:
            for i, dimension in enumerate(FOUND):
                v[base + 1 + i, i] = 1.0
                o[dimension, base + 1 + i] = 0.05


def _gathering(network: Network) -> None:
    """Wire the last layer: count what was found, gather question and passage, multiply them."""
    size = network.shape.head_dim
    attention, mlp = network.layers[-1].self_attn, network.layers[-1].mlp
    q, k = attention["q_proj"].weight, attention["k_proj"].weight
    v, o = attention["v_proj"].weight, attention["o_proj"].weight
    _scale(network, len(network.layers) - 1, 4.0)  # attention logits are up to 32
    _, slow = _dims(network)
    # What a key says beside a constant 1; a hundredth is about a third of a logit.
    found = {HARD: 0.2, ALSO: 0.2, THIRD: 0.2, RARITY: 0.22, AGAIN: -0.3}
    wanted = (
        {AFTER_DOCUMENT: 0.3, START: 0.112, ONE: -0.8, **found},
        {AFTER_QUERY: 0.3, AFTER_DOCUMENT: -0.3, RARITY: 0.1},
        {AFTER_DOCUMENT: 0.3, RARITY: 0.1},
        {AFTER_DOCUMENT: 0.3, START: 0.035, ONE: -0.15},
    )
    for head, terms in enumerate(wanted):
        base = head * size
        for matrix in (q, k, v):
            matrix[base : base + size] *= 0.1
        a, b = base + slow[-1], base + slow[-2]
        q[a, ONE] = 1.0
        k[b, ONE] = 1.0
        for dimension, factor in terms.items():
            k[a, dimension] += factor
        if head in {1, 2}:
            for i in range(GATHERED):
                v[base + i, i] = 1.0
                o[(head - 1) * GATHERED + i, base + i] = 0.5
        else:
            v[base, ONE], v[base, START] = 0.25, -0.25 / 6
            o[ANSWER, base] = 4.0 if head == 0 else -1.0
    gate, up, down = (mlp[f"{name}_proj"].weight for name in ("gate", "up", "down"))
    for i in range(GATHERED):
        for row, sign in ((2 * i, 1.0), (2 * i + 1, -1.0)):  # silu(x) y + silu(-x) (-y) = x y
            gate[row, i] = sign
            up[row, GATHERED + i] = sign
            down[ANSWER, row] = 0.005
