"""Diagnose what is wrong with a server, a model or an environment, and what to do about it."""

from qwen3_reranker.doctor.diagnosis import adiagnose, diagnose
from qwen3_reranker.doctor.findings import Finding, Report
from qwen3_reranker.problems import PROBLEMS, Problem

__all__ = ["PROBLEMS", "Finding", "Problem", "Report", "adiagnose", "diagnose"]
