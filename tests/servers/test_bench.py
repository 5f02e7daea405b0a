"""Load tests of a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.bench import LoadTest

from support.servers.processes import Server


@pytest.mark.parametrize("load", [{"concurrency": 4}, {"rate": 10}])
def test_tokens_are_those_that_vllm_counts(vllm_original: Server, load: dict[str, Any]) -> None:
    with Reranker(base_url=vllm_original.url) as reranker:
        prompt = reranker.prompt("a", "a")
        result = LoadTest(reranker, requests=12, documents=5, tokens=40, **load).run()
        assert (result.successful, result.failed, result.total_documents) == (12, 0, 60)
        # The shortest prompt has one token of the query and one of the document.
        assert result.total_input_tokens == 60 * (len(prompt.ids) + 15 + 39)
        assert reranker.stats().truncated == 0
    assert all(sample.latency > 0 for sample in result.samples)


def test_the_command(vllm_original: Server, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "qwen3_reranker", "bench", "--base-url", vllm_original.url]
    command += ["--requests", "10", "--documents", "4", "--tokens", "30", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "Document throughput (docs/s)" in done.stdout
    result = json.loads(file.read_text("utf-8"))
    assert (result["successful"], result["failed"]) == (10, 0)
    assert "dialect vllm-classify at /classify, token ids" in result["environment"]["backend"]
