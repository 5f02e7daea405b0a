"""What Windows lacks is not needed to import the package, nor to score with a server."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from support.scripted_server import ScriptedServer, relevance

pytestmark = pytest.mark.slow

PROGRAM = textwrap.dedent("""
    import os, signal, sys
    del os.register_at_fork, os.fork, os.killpg, signal.SIGHUP, signal.SIGKILL

    import importlib, pkgutil
    import qwen3_reranker

    names = [m.name for m in pkgutil.walk_packages(qwen3_reranker.__path__, "qwen3_reranker.")]
    for name in names:
        importlib.import_module(name)
    with qwen3_reranker.Reranker(base_url=sys.argv[1]) as reranker:
        print(len(names), reranker.score("Where?", ["a river"])[0])
""")


def test_the_package_works_without_what_windows_lacks() -> None:
    with ScriptedServer() as server:
        command = [sys.executable, "-c", PROGRAM, server.url]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    modules, score = result.stdout.split()
    assert int(modules) > 50
    assert float(score) == relevance("Where?", "a river")
