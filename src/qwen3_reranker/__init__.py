"""Qwen3-Reranker for LangChain and LlamaIndex: the exact prompt, an embedded vLLM, the best kept."""

from qwen3_reranker.errors import (
    CheckpointError,
    ClosedError,
    EngineError,
    ForkError,
    InputError,
    MissingDependencyError,
    PromptTooLongError,
    RerankerError,
    ScoreError,
    UnsupportedVersionError,
)
from qwen3_reranker.prompt import DEFAULT_INSTRUCTION, Prompt
from qwen3_reranker.ranking import Hit
from qwen3_reranker.reranker import DEFAULT_MODEL, Reranker
from qwen3_reranker.scorers import Scorer, Scores

__all__ = [
    "DEFAULT_INSTRUCTION",
    "DEFAULT_MODEL",
    "CheckpointError",
    "ClosedError",
    "EngineError",
    "ForkError",
    "Hit",
    "InputError",
    "MissingDependencyError",
    "Prompt",
    "PromptTooLongError",
    "Reranker",
    "RerankerError",
    "ScoreError",
    "Scorer",
    "Scores",
    "UnsupportedVersionError",
    "__version__",
]

__version__ = "0.1.0"
