"""Read the JSON of LlamaIndex's EmbeddingQAFinetuneDataset (llama-index-finetuning 0.5)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.readers.lines import DatasetParts, unusable

__all__ = ["read_llama_index"]

_EXPECTED = 'an object with "queries", "corpus" and "relevant_docs"'


def read_llama_index(path: Path) -> DatasetParts:
    """
    Read what `EmbeddingQAFinetuneDataset.save_json()` writes.

    Args:
        path: The file: {"queries": {ID: TEXT}, "corpus": {ID: TEXT}, "relevant_docs": {ID: [ID]}}.
            Documents that are not listed as relevant are irrelevant. It has no candidates, so a
            first stage is still to find them.

    Raises:
        InputError: The file cannot be read, or is not such a dataset.
    """
    data = _read(path)
    queries, documents = _texts(path, data, "queries"), _texts(path, data, "corpus")
    relevant = data["relevant_docs"]
    if not isinstance(relevant, dict):
        raise unusable(f"{path}, relevant_docs", "lists of document ids by query id", relevant)
    judgments = {}
    for query, ids in relevant.items():
        where = f'{path}, relevant_docs["{query}"]'
        if query not in queries:
            raise unusable(where, "the id of a query", query)
        if not isinstance(ids, list):
            raise unusable(where, "a list of document ids", ids)
        for name in ids:
            if not isinstance(name, str) or name not in documents:
                raise unusable(where, "ids of the corpus", name)
        judgments[query] = dict.fromkeys(ids, 1)
    return DatasetParts(queries, documents, judgments)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from None
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise unusable(where, _EXPECTED, f"no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise unusable(str(path), _EXPECTED, f"no JSON that can be read: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if not isinstance(data, dict) or not {"queries", "corpus", "relevant_docs"} <= data.keys():
        raise unusable(str(path), _EXPECTED, data)
    return data


def _texts(path: Path, data: dict[str, Any], key: str) -> dict[str, str]:
    texts = data[key]
    if not isinstance(texts, dict):
        raise unusable(f"{path}, {key}", "texts by their ids", texts)
    for name, text in texts.items():
        if not isinstance(text, str) or (key == "queries" and not text.strip()):
            raise unusable(f'{path}, {key}["{name}"]', "a text", text)
    return texts
