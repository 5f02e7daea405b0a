"""Detect a server's engine, endpoint and template handling."""

from qwen3_reranker.remote.detection.detector import Basis, Detector, UnfitServerError
from qwen3_reranker.remote.detection.route import Answer, Route, Template
from qwen3_reranker.remote.detection.server_info import ServerInfo, read_server_info

__all__ = [
    "Answer",
    "Basis",
    "Detector",
    "Route",
    "ServerInfo",
    "Template",
    "UnfitServerError",
    "read_server_info",
]
