"""Quantized checkpoints in vLLM, against their emulation and against the original."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.convert import convert, verify

from support.helpers import EAGER
from support.real_pairs import real_pairs

PAIRS = real_pairs(4)


@pytest.mark.parametrize(("number_format", "labels"), [("int8", 1), ("fp8", 2)])
def test_vllm_computes_what_the_emulation_does(
    tmp_path: Path, number_format: Any, labels: Any
) -> None:
    done = convert("demo", tmp_path / "target", labels=labels, quantize=number_format)
    emulated = verify("demo", done.folder, pairs=PAIRS)
    with Reranker(str(done.folder), engine_args=EAGER) as reranker:
        found = [s for query, documents in PAIRS for s in reranker.score(query, documents)]
    apart = [abs(a - b) for a, b in zip(found, emulated.target, strict=True)]
    changed = [abs(a - b) for a, b in zip(found, emulated.source, strict=True)]
    # Where a last digit rounds another way, later layers round other numbers.
    assert statistics.mean(apart) < statistics.mean(changed) / 5
    # The stated distance.
    assert max(changed) < 0.2 and statistics.mean(changed) < 0.03
