"""
200 callers ask a gateway for minutes, while one of the two servers behind it is killed twice.

    make load-gateway                          # or: python -m reliability.load_gateway --minutes 5

The servers are vLLM with the demo model in fp32. Every answer is compared with the scores of the
model card's script in transformers. The exit code is 1 if an answer is wrong, lost, doubled or
refused, or if the gateway has counted other answers than the callers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from qwen3_reranker import Reranker
from qwen3_reranker.embedded.reference import TransformersScorer

from benchmarks import record
from reliability.cases import make_cases
from reliability.gateway_load import gateway_server, load
from support.servers.processes import MAX_LENGTH
from support.servers.vllm_servers import launched_vllm

FAILURES = ("wrong", "lost", "doubled", "refused")


def main() -> None:
    """Start the servers and the gateway, ask, print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--save", default="load", help="the name of the JSON file")
    arguments = parser.parse_args()
    scorer = TransformersScorer("demo", dtype="float32", max_length=MAX_LENGTH)
    with Reranker(scorer=scorer) as reference:
        cases = make_cases(reference)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            launched_vllm("client", folder / "one.log") as one,
            launched_vllm("client", folder / "other.log") as other,
            gateway_server([one.url, other.url], folder / "gateway.log") as gateway,
        ):
            figures = asyncio.run(
                load(
                    gateway,
                    other,
                    cases,
                    callers=arguments.callers,
                    seconds=60 * arguments.minutes,
                )
            )
    print(json.dumps(figures, indent=1))
    record.save(arguments.save, {"cases": len(cases), **figures})
    counted = figures["answers_counted_by_the_gateway"] == figures["answered"]
    sys.exit(any(figures[failure] for failure in FAILURES) or not counted)


if __name__ == "__main__":
    main()
