"""
Measure imports, the time to the first score compared with plain vLLM, and cached scores.

    make bench-costs                          # or: python -m benchmarks.bench_costs

Each number comes from its own process. A cold start begins with empty caches of compiled code; a
warm start uses the caches of the cold start before it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from diskcache import Cache

from qwen3_reranker import Reranker

from benchmarks import record
from benchmarks.bench_embedded import LITTLE_MEMORY
from benchmarks.work import SHAPES, make_model, make_queries, make_work

# The names that the adapter imports, one by one, because langchain-core loads them lazily.
_LANGCHAIN = (
    "from langchain_core.callbacks import Callbacks; "
    "from langchain_core.documents import BaseDocumentCompressor, Document; "
    "from langchain_core.runnables import RunnableLambda"
)
IMPORTS = {
    "httpx, tokenizers": "import httpx, tokenizers",
    "+ qwen3_reranker": "import httpx, tokenizers, qwen3_reranker",
    "qwen3_reranker + langchain-core": f"import qwen3_reranker; {_LANGCHAIN}",
    "+ qwen3_reranker.langchain": (
        f"import qwen3_reranker; {_LANGCHAIN}; import qwen3_reranker.langchain"
    ),
}
# Prints the milliseconds and the loaded packages.
_IMPORT = """
import sys, time
started = time.perf_counter()
{code}
print((time.perf_counter() - started) * 1000, *sorted({{n.partition(".")[0] for n in sys.modules}}))
"""
_QUERY = '"How do I join two paths?", ["os.path.join(a, *p)", "time.sleep(seconds)"]'
_MAIN = """
import sys, time
def main(folder):
    started = time.perf_counter()
    {code}
    print("SECONDS", time.perf_counter() - started)
if __name__ == "__main__":
    main(sys.argv[1])
"""
_OURS = """from qwen3_reranker import Reranker
    Reranker(folder, check=False{arguments}).score({query})"""
STARTS = {
    "Reranker": _OURS.format(query=_QUERY, arguments=""),
    "Reranker, enforce_eager": _OURS.format(
        query=_QUERY, arguments=', engine_args={"enforce_eager": True}'
    ),
    "vLLM's LLM": f"""from vllm import LLM
    from qwen3_reranker.model.layout import ORIGINAL
    LLM(folder, runner="pooling", hf_overrides=ORIGINAL).score({_QUERY}, use_tqdm=False)""",
}
# vLLM's default for threads is left alone.
_ENV = {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", **LITTLE_MEMORY}


def main() -> None:
    """Measure, print and save the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--turns", type=int, default=9, help="of the imports")
    parser.add_argument("--shape", choices=SHAPES, default="44M")
    parser.add_argument("--save", default="costs", help="the name of the JSON file")
    arguments = parser.parse_args()
    imports = measure_imports(arguments.turns)
    with tempfile.TemporaryDirectory() as folder:
        starts = measure_starts(Path(folder), arguments.shape)
        cached = measure_caches(Path(folder))
    numbers = {"imports": imports, "starts": starts, "cached_ms": cached}
    record.save(arguments.save, {"shape": arguments.shape, **numbers})


def measure_imports(turns: int) -> dict[str, dict[str, Any]]:
    """Return the median milliseconds of each import, and the packages that it loads."""
    found: dict[str, list[list[str]]] = {name: [] for name in IMPORTS}
    for _ in range(turns):
        for name, code in IMPORTS.items():
            script = _IMPORT.format(code=code)
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
            found[name].append(done.stdout.decode().split())
    results = {}
    for name, lines in found.items():
        milliseconds = statistics.median(float(line[0]) for line in lines)
        results[name] = {"ms": milliseconds, "packages": lines[0][1:]}
        print(f"{name:<34}{milliseconds:7.1f} ms  {len(lines[0]) - 1} packages", flush=True)
    return results


def measure_starts(root: Path, shape: str) -> dict[str, dict[str, float]]:
    """Return the seconds from the first import to the first score, cold and warm."""
    model = make_model(root / "model", shape)
    starts: dict[str, dict[str, float]] = {}
    for place, (name, code) in enumerate(STARTS.items()):
        # Without spaces, which break the compiler's command line.
        cache = root / f"cache-{place}"
        env = {"VLLM_CACHE_ROOT": f"{cache}/vllm", "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor"}
        for kind in ("cold", "warm"):
            done = subprocess.run(
                [sys.executable, "-c", _MAIN.format(code=code), str(model)],
                env={**os.environ, **_ENV, **env},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError((done.stdout + done.stderr)[-8000:])
            seconds = float(done.stdout.split("SECONDS ")[1].split()[0])
            starts.setdefault(name, {})[kind] = seconds
            print(f"{name:<26}{kind:<6}{seconds:7.1f} s", flush=True)
    print(json.dumps(starts))
    return starts


def measure_caches(root: Path) -> dict[str, float]:
    """Return the milliseconds for 64 documents with the demo model, scored and cached."""
    [work] = make_work(make_queries(), 0, 64, 1)
    found = {}
    settings: dict[str, Any] = {"engine_args": {"enforce_eager": True}}
    with Reranker("demo", **settings) as reranker, Cache(root) as disk:
        reranker.score("warm up", work[1])
        caches: list[tuple[str, Any]] = [("a dict", {}), ("diskcache", disk)]
        found["scored"] = milliseconds(partial(reranker.rerank, *work))
        for name, cache in caches:
            with Reranker("demo", cache=cache, **settings) as cached:  # shares the engine
                cached.rerank(*work)
                found[f"remembered in {name}"] = milliseconds(partial(cached.rerank, *work))
    print(found)
    return found


def milliseconds(call: Callable[[], object]) -> float:
    """Return how many milliseconds a call takes."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
