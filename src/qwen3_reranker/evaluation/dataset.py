"""Queries with the documents that a retriever found for them, and judgments of the documents."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.first_stage import DEFAULT_DEPTH, candidates_of, name_of
from qwen3_reranker.evaluation.readers.beir import read_beir
from qwen3_reranker.evaluation.readers.jsonl import read_jsonl
from qwen3_reranker.evaluation.readers.lines import DatasetParts
from qwen3_reranker.evaluation.readers.llama_index import read_llama_index
from qwen3_reranker.evaluation.readers.retrievers import DISTINCT_IDS, IdOf, retrieve
from qwen3_reranker.evaluation.readers.trec import read_trec
from qwen3_reranker.model.template import check_unicode
from qwen3_reranker.paths import expand_user

__all__ = ["Dataset"]

_FORMS = (
    "a .jsonl file of queries with documents, a .json file of LlamaIndex, or a folder with corpus, "
    "queries and qrels (BEIR or TREC)"
)


@dataclass(frozen=True, repr=False)
class Dataset:
    """
    Queries, documents, and judgments of which documents are relevant to which query.

    Use `load()` for files, `from_retriever()` for a retriever and questions, or the constructor
    for anything else.

    Args:
        queries: The text of each query by its id; not blank.
        documents: The text of each document by its id.
        judgments: The grade of each judged document, by query id and document id: a whole number,
            where 0 is irrelevant. A document without a grade is unjudged, which counts as
            irrelevant. A judged document need not be among `documents`.
        candidates: The ids of the documents that the retriever found for each query, best first.
            None if a first stage is still to find them, see `retrieve()`.
        name: What reports call the dataset.
        first_stage: What reports call the source of the candidates.

    Raises:
        InputError: An argument has another form, an id or a text is not a str or has a lone
            surrogate, a query is blank, a grade is not a whole number, a document occurs twice
            among the candidates of a query, a query of `judgments` or `candidates` is not among
            `queries`, or a candidate is not among `documents`.
    """

    queries: Mapping[str, str]
    documents: Mapping[str, str]
    judgments: Mapping[str, Mapping[str, int]]
    candidates: Mapping[str, Sequence[str]] | None = None
    name: str = "dataset"
    first_stage: str = "the given order"

    def __post_init__(self) -> None:
        _check_mapping("queries", self.queries, "query ids to texts")
        _check_mapping("documents", self.documents, "document ids to texts")
        for kind, texts in (("query", self.queries), ("document", self.documents)):
            for name, text in texts.items():
                _check_id(kind, name)
                if not isinstance(text, str) or (kind == "query" and not text.strip()):
                    raise InputError(f"{kind} {name!r} must be a text, not {text!r:.80}")
                check_unicode(f"{kind} {name!r}", text)
        self._check_judgments()
        self._check_candidates()

    def __repr__(self) -> str:
        stage = "no candidates yet" if self.candidates is None else self.first_stage
        return (
            f"Dataset({self.name!r}, {len(self.judgments)} judged queries, "
            f"{len(self.documents)} documents, {stage})"
        )

    def _check_judgments(self) -> None:
        _check_mapping("judgments", self.judgments, "query ids to grades by document id")
        if not self.judgments:
            raise InputError("judgments is empty: without them nothing can be measured")
        for query, grades in self.judgments.items():
            if query not in self.queries:
                raise InputError(f"judgments has query {query!r}, which is not among queries")
            _check_mapping(f"judgments[{query!r}]", grades, "document ids to grades")
            for document, grade in grades.items():
                _check_id(f"judgments of query {query!r}: document", document)
                if type(grade) is not int:
                    raise InputError(
                        f"the grade of document {document!r} for query {query!r} is {grade!r}: "
                        "give a whole number"
                    )

    def _check_candidates(self) -> None:
        if self.candidates is None:
            return
        _check_mapping("candidates", self.candidates, "query ids to lists of document ids")
        for query, names in self.candidates.items():
            if query not in self.queries:
                raise InputError(f"candidates has query {query!r}, which is not among queries")
            if isinstance(names, str) or not isinstance(names, Sequence):
                raise InputError(
                    f"candidates[{query!r}] is {names!r:.80}: give a list of document ids"
                )
            for document in names:
                if not isinstance(document, str) or document not in self.documents:
                    raise InputError(
                        f"candidate {document!r:.80} of query {query!r} is not among documents"
                    )
            if len(set(names)) != len(names):
                raise InputError(f"a document occurs twice among the candidates of {query!r}")

    @classmethod
    def load(
        cls, path: str | Path, *, split: str | None = None, run: str | Path | None = None
    ) -> Self:
        """
        Read a dataset from a file or a folder.

        These forms are read. Each file of a folder, and the .jsonl file, may be compressed as .gz:

        - A .jsonl file with one query per line: `{"query": TEXT, "documents": [TEXT, ...],
          "relevant": [POSITION, ...]}`. The documents are in the retriever's order, and "relevant"
          lists the positions, from 0, of those that answer the query. In place of "relevant",
          "grades" holds one whole number per document, where 0 is irrelevant. "id" is optional.
        - A .json file that LlamaIndex's `EmbeddingQAFinetuneDataset` wrote.
        - A BEIR folder: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.
        - A folder with a corpus and queries (each .jsonl as in BEIR, or .tsv) and TREC judgments:
          qrels.txt, qrels.trec or qrels.tsv. A run named run.txt or run.trec gives the candidates.
          A line of .tsv is an id, a tab and a text, without a header, and quotation marks belong to
          the text, as in MS MARCO.

        Args:
            path: The file or folder.
            split: Which judgments of a BEIR folder to use. None uses "test", or the only ones. The
                other forms have no splits.
            run: A file in TREC's run format with the candidates of each query. It is ordered as
                trec_eval does: by descending score, and equal scores by descending document id.
                None uses the run in the folder, if there is one.

        Returns:
            The dataset. It has no candidates yet if there is neither a run nor a list of documents
            per query.

        Raises:
            InputError: A file is missing or cannot be used, or `split` or `run` does not apply to
                this form. The message names the file, the line and what was expected.
        """
        path, run = expand_user(path), None if run is None else expand_user(run)
        if not path.exists():
            raise InputError(f"{path} does not exist: give {_FORMS}")
        is_beir = (path / "qrels").is_dir()
        if split is not None and not is_beir:
            raise InputError(
                f"split={split!r} belongs to a BEIR folder, and {path} is not one: it has no "
                "folder qrels"
            )
        if path.is_dir():
            run = run or _first(path, "run", ("trec", "txt"))
            if is_beir:
                parts = read_beir(path, split, run)
            else:
                texts = ("jsonl", "tsv")
                queries, corpus = (_required(path, stem, texts) for stem in ("queries", "corpus"))
                qrels = _required(path, "qrels", ("txt", "trec", "tsv"))
                parts = read_trec(queries, corpus, qrels, run)
            name = path.resolve().name
            return cls(*parts, name=name, first_stage=run.name if run else "the given order")
        if run is not None:
            raise InputError(f"run={str(run)!r} belongs to a folder, and {path} is not one")
        if path.suffix == ".json":
            return cls(*read_llama_index(path), name=path.stem)
        if ".jsonl" in path.suffixes[-2:]:
            return cls(*read_jsonl(path), name=path.name.partition(".jsonl")[0])
        raise InputError(f"{path}: its format is not known: give {_FORMS}")

    @classmethod
    def from_retriever(
        cls,
        retriever: Any,
        questions: Mapping[str, Iterable[str] | Mapping[str, int]],
        *,
        id_of: IdOf | None = None,
        name: str = "questions",
    ) -> Self:
        """
        Ask a LangChain or LlamaIndex retriever, and take what it finds as the candidates.

        Args:
            retriever: A LangChain retriever, or any runnable from a question to documents, or a
                LlamaIndex retriever. How many documents it finds is its own setting.
            questions: For each question the ids of the documents that answer it, which may be
                none, or a mapping of ids to grades.
            id_of: Returns the id of a document or node, which must be that of its text: where a
                source is divided into chunks, each needs an id of its own. None uses LangChain's
                `Document.id` and LlamaIndex's `node_id`.
            name: What reports call the dataset.

        Returns:
            The dataset, whose texts are what the adapters score by default: `page_content`, or the
            node's content with `MetadataMode.EMBED`.

        Raises:
            InputError: A document has no id, or two different texts have the same.
        """
        parts = DatasetParts({}, {}, {})
        candidates = {}
        for number, (question, relevant) in enumerate(questions.items(), 1):
            query = str(number)
            found = retrieve(retriever, question, id_of)
            parts.queries[query] = question
            for document, text in found:
                if parts.documents.setdefault(document, text) != text:
                    raise InputError(
                        f"the retriever found two texts with the id {document!r}: "
                        f"{parts.documents[document]!r:.60} and {text!r:.60}. {DISTINCT_IDS}"
                    )
            candidates[query] = [document for document, _ in found]
            if isinstance(relevant, str):
                raise InputError(f"questions[{question!r}] is {relevant!r}: give a list of ids")
            parts.judgments[query] = (
                dict(relevant) if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1)
            )
        return cls(*parts[:3], candidates, name, name_of(retriever))

    def retrieve(
        self, first_stage: Any = "bm25", *, depth: int = DEFAULT_DEPTH, id_of: IdOf | None = None
    ) -> Self:
        """
        Return a dataset with the candidates that a first stage finds among its documents.

        Args:
            first_stage: "bm25", a LangChain retriever (or any runnable from a question to
                documents), or a LlamaIndex retriever. BM25 is bm25s with its default parameters and
                English stop words. Its words are separated by spaces, so it does not suit Chinese,
                Japanese or Thai.
            depth: The number of candidates to keep per query, 1 or more.
            id_of: Returns the id that a retriever's document or node has in this dataset. None uses
                LangChain's `Document.id` and LlamaIndex's `node_id`.

        Raises:
            InputError: An argument cannot be used, or a retriever finds a document that this
                dataset does not have.
        """
        found = candidates_of(
            first_stage,
            {query: self.queries[query] for query in self.judgments},
            self.documents,
            depth,
            id_of,
        )
        return replace(self, candidates=found, first_stage=name_of(first_stage))

    def halves(self, seed: int = 0) -> tuple[Self, Self]:
        """
        Divide the judged queries into two halves at random.

        Args:
            seed: Decides which queries are in which half.

        Raises:
            InputError: There are fewer than two judged queries.
        """
        queries = sorted(self.judgments)
        if len(queries) < 2:
            raise InputError(f"{self.name} has {len(queries)} judged query: two halves need two")
        random.Random(seed).shuffle(queries)  # noqa: S311  # not a secret
        middle = len(queries) // 2
        return self.of_queries(queries[:middle]), self.of_queries(queries[middle:])

    def of_queries(self, queries: Iterable[str]) -> Self:
        """
        Return a dataset of some of the judged queries, in this dataset's order.

        Args:
            queries: Their ids.
        """
        kept = set(queries)
        judgments = {query: grades for query, grades in self.judgments.items() if query in kept}
        if self.candidates is None:
            return replace(self, judgments=judgments)
        candidates = {query: ids for query, ids in self.candidates.items() if query in kept}
        return replace(self, judgments=judgments, candidates=candidates)


def _check_mapping(name: str, value: object, of: str) -> None:
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is {value!r:.80}: give a mapping of {of}")


def _check_id(kind: str, name: object) -> None:
    if not isinstance(name, str):
        raise InputError(f"{kind} {name!r} has an id that is not a text: give a str")
    check_unicode(f"the id of {kind} {name!r}", name)


def _first(folder: Path, stem: str, suffixes: Sequence[str]) -> Path | None:
    """Return the first file of a folder with this stem and one of the suffixes, or also .gz."""
    paths = (folder / f"{stem}.{suffix}{gz}" for suffix in suffixes for gz in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _required(folder: Path, stem: str, suffixes: Sequence[str]) -> Path:
    if path := _first(folder, stem, suffixes):
        return path
    names = ", ".join(f"{stem}.{suffix}" for suffix in suffixes)
    raise InputError(
        f"{folder}: expected one of {names}, each of which may end in .gz. A dataset is {_FORMS}"
    )
