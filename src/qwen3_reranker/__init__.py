"""Qwen3-Reranker for LangChain and LlamaIndex: the exact prompt, an embedded vLLM, the best kept."""

from typing import TYPE_CHECKING

from qwen3_reranker.errors import (
    AnswerError,
    CheckpointError,
    ClosedError,
    DetectionError,
    EngineError,
    EventLoopError,
    ForkError,
    InputError,
    MissingDependencyError,
    PromptTooLongError,
    RerankerError,
    RerankerWarning,
    ScoreError,
    ServerError,
    ServerUnavailableError,
    UnsupportedFeatureError,
    UnsupportedVersionError,
)
from qwen3_reranker.model.prompt import DEFAULT_INSTRUCTION, Prompt
from qwen3_reranker.ranking import Hit
from qwen3_reranker.reranker import DEFAULT_MODEL, Reranker
from qwen3_reranker.scorer import Scorer, Scores
from qwen3_reranker.version import __version__

if TYPE_CHECKING:  # brings the HTTP client
    from qwen3_reranker.remote.options import ServerOptions

__all__ = [
    "DEFAULT_INSTRUCTION",
    "DEFAULT_MODEL",
    "AnswerError",
    "CheckpointError",
    "ClosedError",
    "DetectionError",
    "EngineError",
    "EventLoopError",
    "ForkError",
    "Hit",
    "InputError",
    "MissingDependencyError",
    "Prompt",
    "PromptTooLongError",
    "Reranker",
    "RerankerError",
    "RerankerWarning",
    "ScoreError",
    "Scorer",
    "Scores",
    "ServerError",
    "ServerOptions",
    "ServerUnavailableError",
    "UnsupportedFeatureError",
    "UnsupportedVersionError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "ServerOptions":
        from qwen3_reranker.remote.options import ServerOptions

        return ServerOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
