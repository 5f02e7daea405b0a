"""The commands and the programs of README.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ANSWERS", "README", "ROOT", "Snippet", "ranking", "snippets"]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")

# How the output of each program begins, by its section.
ANSWERS = {
    "LangChain": r"\[Document\(.*'relevance_score': 0\.\d+"
    r".*='random\.shuffle\(\) shuffles a list\.'\)\]\n",
    "LlamaIndex": r"Node ID: .+\nText: random\.shuffle\(\) shuffles a list\.\nScore:  0\.\d+\n",
    "Without a framework": r"0 0\.\d+ The capital of China is Beijing\. False\n"
    r"<\|im_start\|>system\n",
}


@dataclass(frozen=True)
class Snippet:
    """A program of README and the command above it that installs what it imports."""

    section: str
    install: str
    code: str

    @property
    def extras(self) -> tuple[str, ...]:
        """The extras that its command installs for it; `cli` is for `install-engine` alone."""
        [names] = re.findall(r"'qwen3-reranker\[([\w,-]+)\]'", self.install)
        return tuple(name for name in names.split(",") if name != "cli")


def snippets() -> list[Snippet]:
    """Return the programs that stand right below a command that installs what they need."""
    pattern = r"^## (.+)\n\n    (pip install .+)\n\n```python\n((?:.*\n)+?)```"
    return [Snippet(*found) for found in re.findall(pattern, README, re.MULTILINE)]


def ranking() -> str:
    """Return the ranking at README's top."""
    [block] = re.findall(r"^```text\n((?:.*\n)+?)```", README, re.MULTILINE)
    return str(block)
