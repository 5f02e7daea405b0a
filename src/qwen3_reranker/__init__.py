"""Rerank documents with Qwen3-Reranker: in LangChain, in LlamaIndex, or without a framework."""

import logging

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
from qwen3_reranker.model.prompt import Prompt, PromptToken
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.ranking import Hit, Ranking
from qwen3_reranker.remote.options import ServerOptions
from qwen3_reranker.reranker import DEFAULT_MODEL, Reranker
from qwen3_reranker.scorer import Passage, Scorer, Scores
from qwen3_reranker.selection import SelectionOptions
from qwen3_reranker.usage import EndpointStats, EndpointUsage, EngineStats, Stats, Usage
from qwen3_reranker.version import __version__

__all__ = [
    "DEFAULT_INSTRUCTION",
    "DEFAULT_MODEL",
    "AnswerError",
    "CheckpointError",
    "ClosedError",
    "DetectionError",
    "EndpointStats",
    "EndpointUsage",
    "EngineError",
    "EngineStats",
    "EventLoopError",
    "ForkError",
    "Hit",
    "InputError",
    "LongDocumentOptions",
    "MissingDependencyError",
    "Passage",
    "Prompt",
    "PromptToken",
    "PromptTooLongError",
    "Ranking",
    "Reranker",
    "RerankerError",
    "RerankerWarning",
    "ScoreError",
    "Scorer",
    "Scores",
    "SelectionOptions",
    "ServerError",
    "ServerOptions",
    "ServerUnavailableError",
    "Stats",
    "UnsupportedFeatureError",
    "UnsupportedVersionError",
    "Usage",
    "__version__",
]

# A program that does not configure logging sees nothing.
logging.getLogger(__name__).addHandler(logging.NullHandler())
