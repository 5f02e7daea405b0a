"""Read TREC files: judgments (qrels), runs, and the collections that they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.readers.lines import DatasetParts, numbered_lines, unusable_line
from qwen3_reranker.evaluation.readers.texts import read_documents, read_queries

__all__ = ["Judgment", "join", "read_qrels", "read_run", "read_trec", "run_order"]

Judgment = tuple[int, str, str, int]
"""The line number, the query id, the document id and the grade of a judgment."""

_QRELS = "a query id, an iteration, a document id and a whole number as the grade"
_RUN = "a query id, Q0, a document id, a rank, a score and a tag"


def read_trec(queries: Path, corpus: Path, qrels: Path, run: Path | None = None) -> DatasetParts:
    """
    Read a test collection whose judgments and run are in TREC's formats.

    Args:
        queries: The queries, as JSON Lines or tab-separated lines.
        corpus: The documents, in either format.
        qrels: The judgments.
        run: The candidates of each query. None if a first stage is still to find them. With a run,
            only its documents are held in memory.

    Raises:
        InputError: A file or a line cannot be read, or names a query or a document that the other
            files do not have.
    """
    return join(queries, corpus, qrels, read_qrels(qrels), run)


def join(
    queries: Path, corpus: Path, qrels: Path, judgments: Iterable[Judgment], run: Path | None
) -> DatasetParts:
    """
    Put the files of a collection together, and check that they belong together.

    Judged documents that are not in the corpus are allowed: they count as relevant documents that
    were not retrieved.

    Args:
        queries: The queries.
        corpus: The documents.
        qrels: The file that the judgments were read from, for messages.
        judgments: The judgments.
        run: The candidates of each query, or None.

    Raises:
        InputError: A file or a line cannot be read, or names an unknown query or document.
    """
    texts = read_queries(queries)
    grades: dict[str, dict[str, int]] = {}
    for number, query, document, grade in judgments:
        if query not in texts:
            raise unusable_line(qrels, number, f"a query of {queries}", query)
        if document in grades.setdefault(query, {}):
            raise unusable_line(qrels, number, "one grade per document", f"{document} again")
        grades[query][document] = grade
    if not grades:
        raise InputError(f"{qrels}: expected judgments, found none")
    if run is None:
        return DatasetParts(texts, read_documents(corpus), grades)
    rows = read_run(run)
    rows = {query: rows[query] for query in grades if query in rows}
    if not rows:
        raise InputError(f"{run}: expected queries that {qrels} judges, found none of them")
    wanted = {document for found in rows.values() for _, document, _ in found}
    documents = read_documents(corpus, wanted)
    for found in rows.values():
        for number, document, _ in found:
            if document not in documents:
                raise unusable_line(run, number, f"a document of {corpus}", document)
    candidates = {query: run_order(found) for query, found in rows.items()}
    return DatasetParts(texts, documents, grades, candidates)


def read_qrels(path: Path) -> list[Judgment]:
    """
    Return the judgments of a qrels file, in order.

    Raises:
        InputError: The file or a line cannot be read.
    """
    found = []
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != 4:
            raise unusable_line(path, number, _QRELS, line)
        try:
            found.append((number, fields[0], fields[2], int(fields[3])))
        except ValueError:
            raise unusable_line(path, number, _QRELS, line) from None
    return found


def read_run(path: Path) -> dict[str, list[tuple[int, str, float]]]:
    """
    Return the line number, the document id and the score of each row of a run, by query id.

    Raises:
        InputError: The file or a line cannot be read, or a document occurs twice for a query.
    """
    found: dict[str, dict[str, tuple[int, str, float]]] = {}
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise unusable_line(path, number, _RUN, line)
        query, _, document, _, value, _ = fields
        try:
            score = float(value)
        except ValueError:
            raise unusable_line(path, number, _RUN, line) from None
        if math.isnan(score):
            raise unusable_line(path, number, "a score that is a number", line)
        if document in found.setdefault(query, {}):
            expected = "a document once per query"
            raise unusable_line(path, number, expected, f"{document} again for query {query}")
        found[query][document] = number, document, score
    return {query: list(rows.values()) for query, rows in found.items()}


def run_order(rows: Iterable[tuple[int, str, float]]) -> list[str]:
    """
    Return the document ids of a run's rows in the order that trec_eval uses.

    It sorts by descending score, and equal scores by descending document id. The ranks in the file
    are ignored.
    """
    by_id = sorted(rows, key=lambda row: row[1], reverse=True)
    return [document for _, document, _ in sorted(by_id, key=lambda row: -row[2])]
