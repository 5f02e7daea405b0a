"""A gateway under load loses no answer while a server behind it is killed."""

from __future__ import annotations

from pathlib import Path

from qwen3_reranker import Reranker

from reliability.cases import make_cases
from reliability.gateway_load import gateway_server, load
from support.servers.processes import Server


async def test_a_server_is_killed_and_started_again(
    vllm_one_label: Server, vllm_original: Server, recipe: Reranker, tmp_path: Path
) -> None:
    cases = make_cases(recipe, count=20)
    assert len(cases) > 10
    urls = [vllm_one_label.url, vllm_original.url]
    with gateway_server(urls, tmp_path / "gateway.log") as gateway:
        figures = await load(gateway, vllm_original, cases, callers=50, seconds=6, kills=1)
    failures = {name: figures[name] for name in ("wrong", "lost", "doubled", "refused")}
    assert not any(failures.values()), figures["examples"]
    assert figures["answered"] == figures["answers_counted_by_the_gateway"] > 50
    assert len(figures["kills"]) == 1
