"""Diagnose what is wrong with a server, a model or an environment."""

from qwen3_reranker.doctor.diagnosis import adiagnose, diagnose
from qwen3_reranker.doctor.findings import Finding, Report

__all__ = ["Finding", "Report", "adiagnose", "diagnose"]
