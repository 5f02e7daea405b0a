"""From a causal checkpoint to a classifier that servers load."""

from qwen3_reranker.deploy.convert import Conversion, convert
from qwen3_reranker.deploy.doctor import adiagnose, diagnose
from qwen3_reranker.deploy.findings import Finding, Report
from qwen3_reranker.deploy.verify import Verification, verify

__all__ = [
    "Conversion",
    "Finding",
    "Report",
    "Verification",
    "adiagnose",
    "convert",
    "diagnose",
    "verify",
]
