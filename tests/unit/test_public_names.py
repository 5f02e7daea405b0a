"""The public names: whoever adds or removes one changes the list here, and the changelog."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "qwen3_reranker": """
        DEFAULT_INSTRUCTION DEFAULT_MODEL AnswerError CheckpointError ClosedError DetectionError
        EndpointStats EndpointUsage EngineError EngineStats EventLoopError ForkError Hit InputError
        LongDocumentOptions MissingDependencyError Passage Prompt PromptToken PromptTooLongError
        Ranking Reranker RerankerError RerankerWarning ScoreError Scorer Scores SelectionOptions
        ServerError ServerOptions ServerUnavailableError Stats UnsupportedFeatureError
        UnsupportedVersionError Usage __version__
    """,
    "qwen3_reranker.langchain": "Qwen3Rerank RerankInput",
    "qwen3_reranker.llama_index": "Qwen3Rerank",
    "qwen3_reranker.selection": """
        Selection SelectionOptions TokenCounter at_least within_budget without_duplicates
    """,
    "qwen3_reranker.dialects": """
        Dialect HttpRequest Limits RerankDialect ScoreRequest TemplateBy dialects find register
        require_list scores_by_index
    """,
    "qwen3_reranker.convert": "Conversion Verification convert verify",
    "qwen3_reranker.serve": "Launch Server compose dockerfile kubernetes launch serve shell usage",
    "qwen3_reranker.playground": "create_page mount_page page_app",
    "qwen3_reranker.gateway": """
        AliasConfig GatewayConfig Limits MakeReranker Observer RequestRecord create_app read_config
    """,
    "qwen3_reranker.bench": "BenchResult Comparison Failure LoadTest Row Sample compare",
    "qwen3_reranker.bulk": ("BatchReranker BulkProgress BulkSummary rerank_dataset rerank_files"),
    "qwen3_reranker.evaluation": """
        DEFAULT_METRICS Advice Change Changes Dataset DatasetSummary DepthCurve Headroom Metric
        MinScoreCurve NothingRelevant Reliability Report ScoreCurves ScoreFile ScoreHistogram System
        SystemResult TopDocument TopNCurve TuningReport evaluate tune
    """,
    "qwen3_reranker.doctor": "PROBLEMS Finding Problem Report adiagnose diagnose",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_a_module_exports_these_names_and_no_others(module: str) -> None:
    exported = importlib.import_module(module)
    assert sorted(exported.__all__) == sorted(PUBLIC[module].split())
    assert [name for name in exported.__all__ if not hasattr(exported, name)] == []


@pytest.mark.parametrize("module", PUBLIC)
def test_a_star_import_brings_them_all(module: str) -> None:
    names: dict[str, object] = {}
    exec(f"from {module} import *", names)
    assert set(PUBLIC[module].split()) <= set(names)
