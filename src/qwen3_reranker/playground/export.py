"""Export a result as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from qwen3_reranker.playground.ranking import Ranked, Result
from qwen3_reranker.ranking import Hit
from qwen3_reranker.version import __version__

__all__ = ["export_json"]


def export_json(result: Result) -> str:
    """
    Return a result as a JSON document.

    It has the inputs and, for each ranking, the model, the instruction, the usage and all documents
    in ranked order, with `kept` saying which ones `top_n` and `min_score` keep.
    """
    data = {
        "version": __version__,
        "query": result.inputs.query,
        "top_n": result.inputs.top_n,
        "min_score": result.inputs.min_score,
        "long_documents": result.inputs.long_documents,
        "rankings": [_ranking(ranked) for ranked in result.rankings],
    }
    return json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False)


def _ranking(ranked: Ranked) -> dict[str, Any]:
    return {
        "model": ranked.setting.model,
        "instruction": ranked.setting.instruction,
        "usage": asdict(ranked.usage),
        "documents": [
            _document(hit, rank, kept=rank <= ranked.kept)
            for rank, hit in enumerate(ranked.hits, 1)
        ],
    }


def _document(hit: Hit, rank: int, *, kept: bool) -> dict[str, Any]:
    return {
        "rank": rank,
        "index": hit.index,
        "score": hit.score,
        # A blank document has the log-odds -inf, which JSON cannot represent.
        "logit": hit.logit if math.isfinite(hit.logit) else None,
        "kept": kept,
        "truncated": hit.truncated,
        "passage": None if hit.passage is None else asdict(hit.passage),
        "text": hit.text,
    }
