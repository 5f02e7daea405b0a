"""
Find out whether reranking helps on your own queries, and with which settings.

    from qwen3_reranker.evaluation import Dataset, System, evaluate

    report = evaluate(Dataset.load("my-data"), System(base_url="http://localhost:8000"))
    print(report.table())
"""

from qwen3_reranker.errors import MissingDependencyError

try:
    from qwen3_reranker.evaluation.dataset import Dataset
    from qwen3_reranker.evaluation.evaluation import evaluate
    from qwen3_reranker.evaluation.metrics import DEFAULT_METRICS, Metric
    from qwen3_reranker.evaluation.report import Report
    from qwen3_reranker.evaluation.results import (
        Advice,
        Change,
        Changes,
        DatasetSummary,
        DepthCurve,
        Headroom,
        MinScoreCurve,
        NothingRelevant,
        Reliability,
        ScoreCurves,
        ScoreHistogram,
        SystemResult,
        TopDocument,
        TopNCurve,
    )
    from qwen3_reranker.evaluation.score_file import ScoreFile
    from qwen3_reranker.evaluation.systems import System
    from qwen3_reranker.evaluation.tuning import TuningReport, tune
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("ir_measures", "numpy"):
        raise
    raise MissingDependencyError(
        "qwen3_reranker.evaluation needs ir-measures and numpy: "
        f"pip install 'qwen3-reranker[evaluation]' ({error})"
    ) from error

__all__ = [
    "DEFAULT_METRICS",
    "Advice",
    "Change",
    "Changes",
    "Dataset",
    "DatasetSummary",
    "DepthCurve",
    "Headroom",
    "Metric",
    "MinScoreCurve",
    "NothingRelevant",
    "Reliability",
    "Report",
    "ScoreCurves",
    "ScoreFile",
    "ScoreHistogram",
    "System",
    "SystemResult",
    "TopDocument",
    "TopNCurve",
    "TuningReport",
    "evaluate",
    "tune",
]
