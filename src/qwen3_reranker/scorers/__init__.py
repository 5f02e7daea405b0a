"""Where scores come from: (query, texts, instruction) in, one probability a text out."""

from qwen3_reranker.scorers.base import Scorer, Scores

__all__ = ["Scorer", "Scores"]
