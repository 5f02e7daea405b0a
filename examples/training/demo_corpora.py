"""
The training data of the demo model: passages, and questions about them.

A `Source` has passages, a group for each (its module or article; passages of the same group are
hard negatives) and pairs of a question with the passages that answer it. Except for the questions
and short facts beside this file, none of it is stored in the repository: it is read from the data
folder or from the installed packages.
"""

from __future__ import annotations

import ast
import gettext
import importlib.util
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
_HELD_OUT = """
    pathlib shutil json heapq statistics textwrap csv threading zipfile itertools urllib secrets
    calendar difflib base64 tempfile contextlib glob queue struct
"""
# The model is trained neither on questions about these modules nor on their documents as answers.
HELD_OUT = frozenset(_HELD_OUT.split())
# Packages whose docstrings are used as further documents, if they are installed.
_PACKAGES = """
    numpy scipy sympy torch networkx sklearn transformers pydantic sqlalchemy nltk langchain_core
    langchain_text_splitters langchain_community llama_index vllm fastapi starlette aiohttp httpx
    requests click typer rich attrs jinja2 yaml PIL psutil cryptography joblib tokenizers
    sentence_transformers packaging setuptools pip urllib3 anyio sortedcontainers lark numba
    mpmath regex tqdm huggingface_hub safetensors openai prometheus_client watchfiles websockets
    uvicorn hypothesis mypy fsspec filelock platformdirs tenacity dns multidict yarl dotenv
"""
_GENERAL = "squadshifts nqg-squad nq-oracle medquad pubmedqa arxiv drcd-zh cmrc2018-zh"


@dataclass
class Source:
    """Passages, the group of each, and pairs of a question with the indices of its answers."""

    name: str
    passages: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    pairs: list[tuple[str, list[int]]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """A how-to question, and the names of the documents that answer it, best first."""

    text: str
    answers: tuple[str, ...]


def module_of(name: str) -> str:
    """Return the top-level part of a dotted name."""
    return name.partition(".")[0]


def load_module(path: Path, name: str) -> ModuleType:
    """Import a file that is not part of a package."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def stdlib(*, held_out: bool | None = False) -> Source:
    """Return the demo's collection: held-out modules only (True), the others (False), or all."""
    docs = load_module(HERE.parent / "stdlib_docs.py", "stdlib_docs").load()
    source = Source("stdlib")
    for doc in docs:
        if held_out is None or (module_of(doc.module) in HELD_OUT) == held_out:
            source.passages.append(doc.text)
            source.groups.append(doc.module)
            source.names.append(doc.name)
    return source


def read_questions(path: Path) -> list[Question]:
    """Read questions from a JSON Lines file."""
    lines = path.read_text(encoding="utf8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return [Question(row["question"], tuple(row["answers"])) for row in rows]


def docstrings(limit: int, seed: int) -> Source:
    """Return the docstrings of the installed packages, read without importing them."""
    found: dict[str, tuple[str, str]] = {}
    for package in _PACKAGES.split():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(root.rglob("*.py")):
            parts = (package, *path.relative_to(root).with_suffix("").parts)
            if {"test", "tests", "testing", "_vendor"} & set(parts):
                continue
            try:
                tree = ast.parse(path.read_text(encoding="utf8"))
            except (SyntaxError, ValueError, OSError):
                continue
            for name, text in _documented(tree, ".".join(p for p in parts if p != "__init__")):
                found.setdefault(text.partition("\n\n")[2], (name, text))
    rows = sorted(found.values())
    random.Random(seed).shuffle(rows)
    source = Source("docstrings")
    for name, text in sorted(rows[:limit]):
        source.passages.append(text)
        source.groups.append(".".join(name.split(".")[:2]))
    return source


def _documented(tree: ast.AST, module: str) -> Iterator[tuple[str, str]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, kinds) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node)
        if text and 40 <= len(text) <= 20_000:
            signature = "" if isinstance(node, ast.ClassDef) else f"({ast.unparse(node.args)})"
            yield f"{module}.{node.name}", f"{module}.{node.name}{signature}\n\n{text}"
        if isinstance(node, ast.ClassDef):
            yield from _documented(node, f"{module}.{node.name}")


def general(data: Path, limits: dict[str, int] | None = None) -> list[Source]:
    """Return the question-passage sources of the data folder, each with at most its limit."""
    loader = load_module(data / "load_data.py", "load_data")
    sources = []
    for name in _GENERAL.split():
        source, index = Source(name), {}  # type: ignore[var-annotated]
        pairs = list(loader.train_pairs(name))[: (limits or {}).get(name)]
        for number, (question, passage) in enumerate(pairs):
            if not question or len(passage) < 20:
                continue
            if passage not in index:
                index[passage] = len(source.passages)
                source.passages.append(passage)
                # Neighboring pairs of a file come from the same article.
                source.groups.append(str(number // 40))
            source.pairs.append((question, [index[passage]]))
        sources.append(source)
    return sources


def facts() -> Source:
    """Return the short questions and answers that were written for this model."""
    source = Source("facts")
    rows = (HERE / "short_facts.jsonl").read_text(encoding="utf8").splitlines()
    for row in map(json.loads, rows):
        source.passages.append(row["answer"])
        source.groups.append("facts")
        for question in row["questions"]:
            source.pairs.append((question, [len(source.passages) - 1]))
    return source


_VERBS = {
    "return": ["get", "find", "obtain", "return", "have"],
    "create": ["create", "make", "build"],
    "compute": ["compute", "calculate", "work out"],
    "test": ["test", "check", "find out"],
    "check": ["check", "test", "verify"],
    "convert": ["convert", "turn", "change"],
    "remove": ["remove", "delete", "drop"],
    "write": ["write", "save", "output"],
    "read": ["read", "load"],
    "wait": ["wait", "block"],
    "open": ["open", "access"],
    "send": ["send", "transmit"],
    "call": ["call", "run"],
    "set": ["set", "change"],
    "raise": ["raise", "throw"],
}
# The words of the template, so that each becomes one token ("<Query", "<Document", "yes", ...).
_TEMPLATE = """\
Judge whether the Document meets the requirements based on the Query and the Instruct provided. \
Note that the answer can only be "yes" or "no".
system
user
assistant
<Instruct>: Given a web search query, retrieve relevant passages that answer the query
<Query>: What is?
<Document>: The
yes
no
"""
_WORDS = " Beijing. Gravity gravity planets Explain attracts"
_FRAMES = """
How do I {}?|How can I {}?|How to {}|What is the way to {}?|Is there a function to {}?|{}|
I want to {}|I need to {}|How would I {} in Python?|python {}|Which function lets me {}?|
What is the best way to {}?|Can I {}?|I am trying to {}|{} in python|Is it possible to {}?
""".replace("\n", "").split("|")


def summaries(source: Source, left_out: set[str], rng: random.Random) -> list[Question]:
    """Return questions made from the first paragraphs of docstrings, except for some modules."""
    questions = []
    for name, text in zip(source.names, source.passages, strict=True):
        docstring = text.partition("\n\n")[2]
        summary = " ".join(docstring.partition("\n\n")[0].split())
        if len(summary) >= 15 and module_of(name) not in left_out:
            questions.append(Question(asked(summary, rng)[:200], (name,)))
    return questions


def asked(summary: str, rng: random.Random) -> str:
    """Turn the first line of a docstring into a how-to question."""
    words = re.sub(r"[`*]", "", summary).rstrip(". :").split()[:18]
    first = words[0].lower() if words else ""
    stem = next((v for v in _VERBS if first in (v, v + "s")), "")
    if stem:
        words[0] = rng.choice(_VERBS[stem])
        if len(words) > 1 and words[1] == "True" and "if" in words[2:3]:
            words = [rng.choice(["check if", "test whether", "know if"]), *words[3:]]
    elif first:
        words[0] = first if words[0][1:].islower() else words[0]
    if len(words) > 4 and rng.random() < 0.5:
        words = [word for word in words if rng.random() > 0.15]
    return rng.choice(_FRAMES).format(" ".join(words))


def countries(languages: str = "de es ru fr zh_CN") -> list[str]:
    """Return the names of countries, in English and in other languages."""
    spec = importlib.util.find_spec("pycountry")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    rows = json.loads((folder / "databases/iso3166-1.json").read_text(encoding="utf8"))["3166-1"]
    texts = [" " + row["name"].partition(",")[0] for row in rows] * 20
    for language in languages.split():
        path = folder / "locales" / language / "LC_MESSAGES" / "iso3166-1.mo"
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # noqa: SLF001
        texts += [text for text in catalogue.values() if len(text) < 40]
    return texts


def tokenizer_texts(data: Path, documents: Source) -> list[str]:
    """Return the texts from which the vocabulary is learned; some are repeated as a weight."""
    texts = 4 * stdlib(held_out=None).passages
    texts += [text[:500] for text in documents.passages[::2]]
    cut = {"arxiv": 7000, "medquad": 5000, "drcd-zh": 400, "cmrc2018-zh": 400}
    for source in general(data, cut):
        found = [text[:1200] for text in source.passages] + [pair[0] for pair in source.pairs]
        # The only lower-case source is added in title case too, for names and starts of sentences.
        texts += [text.title() for text in found] if source.name == "nqg-squad" else found
    return [*texts, *countries(), *3000 * [_TEMPLATE], *300 * [_WORDS]]
