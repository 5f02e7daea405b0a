"""
What each platform and each published client makes of the servers' answers, compared with the model
card's recipe, and the page of the documentation that shows it.

    make platforms    # runs them all, and writes the results and the page; tests compare
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from qwen3_reranker import Reranker
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support import client_packages
from support.docs_pages import DOCS
from support.platforms import PLATFORMS, Endpoint, Platform, Ranking, RefusedError, best_first
from support.real_pairs import real_pairs
from support.servers.gateway_servers import gateway_server
from support.servers.processes import MAX_LENGTH, Server
from support.servers.sglang_servers import RERANK_TEMPLATE, sglang_server
from support.servers.vllm_servers import launched_vllm

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests/servers/platform_results.json"
PAGE = DOCS / "reference/platforms.md"
CLIENTS = ROOT / ".venv-clients"

TOLERANCE = 2e-3
TOP_N = 3
PAIRS = [(query, [text.strip() for text in texts]) for query, texts in real_pairs(2)]
WORKS = "works"
# The server's URL in the documentation.
EXAMPLE = "http://HOST:8000"
# No server needs it, and some clients do not start without one.
UNUSED_KEY = "not-needed"

# The servers by the names of their fixtures, and their titles.
SERVERS = {
    "gateway": "Gateway",
    "vllm_template": "vLLM from `serve`",
    "sglang_causal": "SGLang",
}
# SGLang's answer is a list, which hardly any client reads; one table shows that.
CLIENT_SERVERS = [name for name in SERVERS if name != "sglang_causal"]

# The client packages that run in one process, by the folder that comes first on its path. Of
# cohere's classes, the one with `api_url` is that of version 4.
_COHERE = {i for i, one in enumerate(client_packages.CLIENTS) if one.package == "cohere"}
_COHERE_4 = {i for i in _COHERE if client_packages.CLIENTS[i].argument == "api_url"}
RUNS = {
    "cohere-4": _COHERE_4,
    "cohere-7": _COHERE - _COHERE_4,
    "": set(range(len(client_packages.CLIENTS))) - _COHERE_4,
}

Pairs = list[tuple[str, list[str]]]
Scores = list[list[float]]
Outcomes = dict[str, str]


def reference_scores(recipe: Reranker) -> Scores:
    """Return the scores of `PAIRS` by the model card's recipe."""
    return [recipe.score(query, documents) for query, documents in PAIRS]


def compare(ranking: Ranking, right: Ranking) -> str:
    """Return `WORKS`, or in which respect a ranking differs from the right one."""
    if len(ranking) != len(right):
        return "wrong number"
    expected = dict(right)
    if any(abs(expected.get(index, 2) - score) > TOLERANCE for index, score in ranking):
        return "wrong scores"
    pairs = zip(ranking, right, strict=True)
    if any(abs(score - best) > TOLERANCE for (_, score), (_, best) in pairs):
        return "wrong order"
    return WORKS


def worst(outcomes: Iterable[str]) -> str:
    """Return the first outcome that is not `WORKS`, or else that."""
    return next((outcome for outcome in outcomes if outcome != WORKS), WORKS)


def platform_outcome(
    platform: Platform, endpoint: Endpoint, pairs: Pairs, reference: Scores
) -> str:
    """Have a platform rank documents, and return how that went."""

    def one(query: str, documents: list[str], scores: list[float]) -> str:
        try:
            ranking = platform.rank(endpoint, query, documents, TOP_N)
        except RefusedError as error:
            return str(error)
        except (AssertionError, AttributeError, KeyError, TypeError):
            return "unreadable"
        return compare(ranking, platform.expected(scores, TOP_N))

    both = zip(pairs, reference, strict=True)
    return worst(one(query, documents, scores) for (query, documents), scores in both)


def platform_outcomes(server: Server, reference: Scores) -> Outcomes:
    """Return how each platform gets on with a server."""
    with requests.Session() as http:
        endpoint = Endpoint(http, server.url, server.served)
        return {
            platform.name: platform_outcome(platform, endpoint, PAIRS, reference)
            for platform in PLATFORMS
        }


def client_outcomes(server: Server, reference: Scores) -> Outcomes:
    """Run all client packages against a server, and return how each gets on with it."""
    assert CLIENTS.is_dir(), f"{CLIENTS} is missing: `make setup` makes it"

    def outcome(answers: Iterable[Any]) -> str:
        return worst(
            compare([(index, score) for index, score in answer], best_first(scores, TOP_N))
            if isinstance(answer, list)
            else str(answer["error"])
            for answer, scores in zip(answers, reference, strict=True)
        )

    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda folder: _run_packages(server, folder), RUNS)
        return {_client_name(answer): outcome(answer["rankings"]) for run in runs for answer in run}


def _client_name(answer: Mapping[str, Any]) -> str:
    """Return a client's package, its version, and how the class is pointed at a server."""
    client = client_packages.CLIENTS[answer["client"]]
    url = f'{client.argument}="{EXAMPLE}{client.path}"'
    extra = f', api_provider="{client.provider}"' if client.provider else ""
    return f"{client.package} {answer['version']}: {client.name}({url}{extra})"


def _run_packages(server: Server, folder: str) -> list[dict[str, Any]]:
    """Return what the client packages of an environment make of `PAIRS`."""
    request = {
        "clients": sorted(RUNS[folder]),
        "root": server.url,
        "pairs": PAIRS,
        "settings": {"model": server.served, "key": UNUSED_KEY, "top_n": TOP_N},
    }
    done = subprocess.run(
        [str(CLIENTS / "bin/python"), "-P", client_packages.__file__],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ
        | {"HAYSTACK_TELEMETRY_ENABLED": "False"}
        | {"PYTHONPATH": str(CLIENTS / folder) if folder else ""},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS ")]
    answers: list[dict[str, Any]] = json.loads(line.removeprefix("ANSWERS "))
    return answers


def page() -> str:
    """Return the page that shows the recorded results."""
    results = json.loads(RESULTS.read_text("utf-8"))
    platforms = _table(
        ["Platform", "What to type", *SERVERS.values()],
        (
            [platform.name, _fields(platform), *_marks(results["platforms"][platform.name])]
            for platform in PLATFORMS
        ),
    )
    clients = _table(
        ["Package and class", *(SERVERS[name] for name in CLIENT_SERVERS)],
        ([_code(name), *_marks(found)] for name, found in results["clients"].items()),
    )
    text = PAGE.read_text("utf-8")
    for name, table in (("platforms", platforms), ("clients", clients)):
        before, begin, rest = text.partition(f"<!-- {name}: begin -->\n")
        _, end, after = rest.partition(f"<!-- {name}: end -->")
        assert begin and end, f"{PAGE} has no table of {name}"
        text = f"{before}{begin}{table}\n{end}{after}"
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(client: str) -> str:
    package, call = client.split(": ", 1)
    return f"{package}<br>`{call}`"


def _fields(platform: Platform) -> str:
    """Return the fields and their values for a gateway on a host of its own."""
    if not platform.fields:
        return "(no field for a URL)"
    values = {"root": EXAMPLE, "model": "MODEL", "key": "KEY"}
    return "<br>".join(
        f"{name}: `{value.format(**values)}`" for name, value in platform.fields.items()
    )


def _marks(outcomes: Mapping[str, str]) -> list[str]:
    """Return the cells of one row, in the order of the servers."""
    found = [outcomes[name] for name in SERVERS if name in outcomes]
    return ["yes" if outcome == WORKS else f"no: {outcome}" for outcome in found]


def _running() -> Iterator[tuple[str, Server]]:
    """Start the servers one after the other; each runs until the next one is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        with launched_vllm("server", logs / "vllm_template.log") as vllm:
            yield "vllm_template", vllm
            with gateway_server(vllm, logs / "gateway.log") as gateway:
                yield "gateway", gateway
        sglang = sglang_server(DEMO_MODEL, logs / "sglang.log", template=RERANK_TEMPLATE)
        with sglang:
            yield "sglang_causal", sglang


def main() -> None:
    """Run everything against all servers, and write the results and the page."""
    platforms: dict[str, Outcomes] = defaultdict(dict)
    clients: dict[str, Outcomes] = defaultdict(dict)
    with Reranker(
        scorer=TransformersScorer("demo", dtype="float32", max_length=MAX_LENGTH)
    ) as recipe:
        reference = reference_scores(recipe)
    for name, server in _running():
        for row, outcome in platform_outcomes(server, reference).items():
            platforms[row][name] = outcome
        if name in CLIENT_SERVERS:
            for row, outcome in client_outcomes(server, reference).items():
                clients[row][name] = outcome
    results = {"platforms": platforms, "clients": clients}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
