"""The sizes of the published models, so that serving them needs no access to the hub."""

from __future__ import annotations

from typing import Any

from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.layout import CAUSAL

__all__ = ["POSITIONS", "published"]

POSITIONS = 40960
"""The token limit of the published models, and of models that were fine-tuned from them."""

# From each model's config.json: what the model's memory and its longest prompt depend on.
_SHARED = {
    "architectures": [CAUSAL],
    "head_dim": 128,
    "max_position_embeddings": POSITIONS,
    "num_key_value_heads": 8,
    "vocab_size": 151669,
}
_SIZES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-Reranker-0.6B": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-Reranker-4B": {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-Reranker-8B": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "tie_word_embeddings": False,
    },
}


def published(name: str) -> Checkpoint | None:
    """Return a published model's checkpoint, without its tokenizer; None for other names."""
    sizes = _SIZES.get(name)
    return None if sizes is None else Checkpoint(name, "causal", _SHARED | sizes, "")
