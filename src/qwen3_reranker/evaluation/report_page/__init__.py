"""A report as one HTML file that needs no other file and no script."""

from qwen3_reranker.evaluation.report_page.page import report_page

__all__ = ["report_page"]
