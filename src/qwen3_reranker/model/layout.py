"""The names in a checkpoint of a Qwen3 reranker: architectures, files and tensors."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CAUSAL",
    "CLASSIFIER",
    "CONFIG",
    "EMBEDDING",
    "LM_HEAD",
    "ORIGINAL",
    "SCORE_BIAS",
    "SCORE_WEIGHT",
    "TOKENIZER",
    "TOKENIZER_CONFIG",
]

CAUSAL: Final = "Qwen3ForCausalLM"
"""The architecture of an original checkpoint."""

CLASSIFIER: Final = "Qwen3ForSequenceClassification"
"""The architecture of a converted checkpoint."""

ORIGINAL: Final[dict[str, object]] = {
    "architectures": [CLASSIFIER],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}
"""
What vLLM's `hf_overrides` must have for an original checkpoint.

With it vLLM (0.9.2 and later) builds a score head of one row, lm_head[yes] - lm_head[no].
"""

CONFIG: Final = "config.json"
"""The file with the model's architecture and sizes."""

TOKENIZER: Final = "tokenizer.json"
"""The file with the tokenizer's vocabulary and rules."""

TOKENIZER_CONFIG: Final = "tokenizer_config.json"
"""The file with the tokenizer's settings, such as its padding token and chat template."""

EMBEDDING: Final = "model.embed_tokens.weight"
"""The tensor of input embeddings; tied checkpoints use it as the output matrix too."""

LM_HEAD: Final = "lm_head.weight"
"""The tensor of the output matrix of an untied original checkpoint."""

SCORE_WEIGHT: Final = "score.weight"
"""The tensor of a classifier's head: one row per label."""

SCORE_BIAS: Final = "score.bias"
"""The tensor of a classifier's bias: one number per label."""
