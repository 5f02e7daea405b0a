"""Detection of what a server is and how it has to be asked."""

from qwen3_reranker.remote.detection.detector import Detector, UnfitServerError
from qwen3_reranker.remote.detection.route import Route, Template
from qwen3_reranker.remote.detection.server_info import ServerInfo, read_server_info

__all__ = ["Detector", "Route", "ServerInfo", "Template", "UnfitServerError", "read_server_info"]
