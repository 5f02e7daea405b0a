"""
The initial weights of the demo model: embeddings of a sentence encoder, and constructed attention.

From random weights, a network of this size needs far more pairs than a CPU can process before it
learns to compare the words of a passage with those of the question. So its initial weights are
constructed:

- Embeddings: the whitened all-MiniLM-L6-v2 vectors of the vocabulary's strings, longer for rarer
  tokens. A few other dimensions are flags.
- Layer 0: each token learns whether it comes after `<Query` and after `<Document`, and which token
  precedes it.
- Layer 1: the tokens of a passage attend to similar tokens in the question and earlier in the
  passage. A token without a match attends to `<|im_start|>`, whose value is zero.
- The last layer: the last position counts the words of the question that the passage contains, each
  once, with more weight for rarer words and less for longer passages. It also multiplies the mean
  embeddings of question and passage.

All weights are trained afterwards.
"""

from __future__ import annotations

import math

import torch
from demo_network import Network
from torch import Tensor
from torch.nn import functional as F

CONTENT = 160  # dimensions 0 to 159 hold the token's embedding
FOUND = range(160, 182)  # what a passage token has found in the question
BEFORE = range(184, 226)  # the embedding of the previous token
HARD, ALSO, THIRD, AGAIN = range(226, 230)  # found in the question (three projections); seen before
AFTER_QUERY, AFTER_DOCUMENT, ANSWER, START, QUERY, DOCUMENT, RARITY, ONE = range(248, 256)
GATHERED = 60
# Each head of layer 1 compares a projection in which all embeddings have the same length.
VIEWS = (range(42), range(42, 84), range(84, 126), range(126, 160))


def meanings(texts: list[str], counts: Tensor, encoder_path: str) -> Tensor:
    """Return whitened sentence-encoder vectors [tokens, CONTENT], longer for rarer tokens."""
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
    """Return the rarity from 0 (one token in 50) to 1 (fewer than one token in 20,000)."""
    share = (counts + 1) / counts.sum()
    return ((-share.log10() - 1.7) / 2.6).clamp(0, 1)


def build(network: Network, content: Tensor, counts: Tensor, marks: dict[str, int]) -> None:
    """Set all weights; `marks` has the ids of the template tokens that have flags."""
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
    table[marks["colon"], :CONTENT] = 0  # because it is in every question and every passage
    table[marks["yes"], :] = table[marks["no"], :] = (table[marks["yes"]] + table[marks["no"]]) / 2
    table[marks["yes"], ANSWER], table[marks["no"], ANSWER] = 0.5, -0.5


def _flag_size(network: Network) -> float:
    """Return the value of ONE in an ordinary token after normalization."""
    x = network.embed_tokens.weight
    return float((x[:, ONE] / x.pow(2).mean(1).sqrt()).median())


def _dims(network: Network) -> tuple[list[int], list[int]]:
    """Return the dimensions of a head that rotate with the position, and those that hardly do."""
    half = network.shape.head_dim // 2
    slow = [i for i in range(half) if network.frequencies[i] < 1e-3]
    return list(range(4)), [*slow, *(i + half for i in slow)]


def _scale(network: Network, layer: int, sharpness: float) -> None:
    attention = network.layers[layer].self_attn
    for name in ("q_norm", "k_norm"):
        attention[name].weight.fill_(sharpness**0.5)


def _regions(network: Network) -> None:
    """Set layer 0: heads 0 and 1 mark the regions, heads 2 and 3 copy the previous token."""
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
    """Set layer 1: three heads search the question for a token, one the passage before it."""
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
        # Besides the content (of length `norm` in a rare token), a key marks that it is in the
        # question (for the last head, in the passage). <|im_start|> scores as much as a token there
        # whose cosine is `limit`.
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
    """Set the last layer: count matches, average question and passage, and multiply them."""
    size = network.shape.head_dim
    attention, mlp = network.layers[-1].self_attn, network.layers[-1].mlp
    q, k = attention["q_proj"].weight, attention["k_proj"].weight
    v, o = attention["v_proj"].weight, attention["o_proj"].weight
    _scale(network, len(network.layers) - 1, 4.0)  # attention logits reach 32
    _, slow = _dims(network)
    # Added to the key's constant 1. A hundredth is about a third of a logit.
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
