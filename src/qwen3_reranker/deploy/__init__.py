"""Deployment: convert a checkpoint, serve it, and see whether it is served right."""

from qwen3_reranker.deploy.convert import Conversion, convert
from qwen3_reranker.deploy.doctor import adiagnose, diagnose
from qwen3_reranker.deploy.findings import Finding, Report
from qwen3_reranker.deploy.launch import Launch, launch
from qwen3_reranker.deploy.serve import Server, serve
from qwen3_reranker.deploy.verify import Verification, verify
from qwen3_reranker.deploy.writing import compose, shell

__all__ = [
    "Conversion",
    "Finding",
    "Launch",
    "Report",
    "Server",
    "Verification",
    "adiagnose",
    "compose",
    "convert",
    "diagnose",
    "launch",
    "serve",
    "shell",
    "verify",
]
