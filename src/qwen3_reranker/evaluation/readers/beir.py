"""Read BEIR's folders: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv."""

from __future__ import annotations

from pathlib import Path

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.readers.lines import DatasetParts, numbered_lines, unusable_line
from qwen3_reranker.evaluation.readers.trec import Judgment, join

__all__ = ["read_beir"]

_HEADER = ["query-id", "corpus-id", "score"]
_EXPECTED = (
    "a query id, a document id and a whole number as the grade, separated by tabs, or in the first "
    f"line the header {', '.join(_HEADER)}"
)


def read_beir(folder: Path, split: str | None = None, run: Path | None = None) -> DatasetParts:
    """
    Read a BEIR folder.

    Args:
        folder: Has corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv. Each may be compressed as .gz.
        split: Which judgments to use. None uses "test", or the only ones that there are.
        run: The candidates of each query, in TREC's run format. None if a first stage is still to
            find them.

    Raises:
        InputError: A file is missing or cannot be read.
    """
    qrels = _qrels(folder / "qrels", split)
    files = [_existing(folder, name) for name in ("queries.jsonl", "corpus.jsonl")]
    return join(files[0], files[1], qrels, _read_qrels(qrels), run)


def _existing(folder: Path, name: str) -> Path:
    plain, compressed = folder / name, folder / f"{name}.gz"
    return compressed if compressed.is_file() and not plain.is_file() else plain


def _qrels(folder: Path, split: str | None) -> Path:
    names = (path.name for path in folder.iterdir() if path.name.endswith((".tsv", ".tsv.gz")))
    splits = sorted({name.partition(".tsv")[0] for name in names})
    if split is None:
        split = splits[0] if len(splits) == 1 else "test"
    if split not in splits:
        found = ", ".join(splits) or "none"
        raise InputError(f"{folder}: expected {split}.tsv, found {found}: give split=")
    return _existing(folder, f"{split}.tsv")


def _read_qrels(path: Path) -> list[Judgment]:
    found = []
    for index, (number, line) in enumerate(numbered_lines(path)):
        fields = line.split("\t")
        try:
            query, document, grade = fields
            found.append((number, query, document, int(grade)))
        except ValueError:
            if index == 0 and [field.strip() for field in fields] == _HEADER:
                continue
            raise unusable_line(path, number, _EXPECTED, line) from None
    return found
