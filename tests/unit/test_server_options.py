"""Options are declared once, and reach everything that takes them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from pydantic import ValidationError

from qwen3_reranker import Reranker
from qwen3_reranker.doctor import adiagnose, diagnose
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank
from qwen3_reranker.options import declared
from qwen3_reranker.remote.options import ConnectionOptions
from qwen3_reranker.scorer_factory import RerankerOptions
from qwen3_reranker.selection import SelectionOptions

ADAPTERS: list[Any] = [LangChainRerank, LlamaIndexRerank]
URL = "http://localhost:8000"


@pytest.mark.parametrize(
    ("documented", "options"),
    [
        (Reranker, RerankerOptions),
        (LangChainRerank, RerankerOptions),
        (LlamaIndexRerank, RerankerOptions),
        (diagnose, ConnectionOptions),
        (adiagnose, ConnectionOptions),
    ],
)
def test_every_option_has_an_entry_of_its_own(documented: Any, options: type) -> None:
    arguments = inspect.cleandoc(documented.__doc__).partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): [A-Z]", arguments, re.MULTILINE)
    assert [name for name in entries if name in declared(RerankerOptions)] == [*declared(options)]
    assert len(entries) == len(set(entries))
    assert not re.search(r"^ *\*\*\w+:", documented.__doc__, re.MULTILINE)


@pytest.mark.parametrize(
    "documented",
    [
        *ADAPTERS,
        *(
            getattr(Reranker, f"{a}rerank{kind}")
            for a in ("", "a")
            for kind in ("", "_many", "_iter")
        ),
    ],
)
def test_every_option_of_a_selection_has_an_entry_of_its_own(documented: Any) -> None:
    arguments = inspect.cleandoc(documented.__doc__).partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): [A-Z]", arguments, re.MULTILINE)
    options = declared(SelectionOptions)
    assert [name for name in entries if name in options] == [*options]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_option_is_a_setting_of_the_adapters(adapter: Any) -> None:
    for name, (_, option) in declared(RerankerOptions).items():
        field = adapter.model_fields[name]
        assert (field.default, field.exclude, field.frozen) == (option.default, option.hidden, True)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_option_of_the_adapters_reaches_the_reranker(adapter: Any) -> None:
    wrong: dict[str, Any] = {"timeout": -1, "max_concurrency": -1, "max_retries": -2}
    wrong |= {"template": "both", "on_unsupported": "cry", "dialect": "esperanto"}
    wrong |= {"tokenizer": "/nowhere", "proxy": "gopher://host", "verify": "/nowhere.pem"}
    wrong |= {"headers": {"a b": "c"}, "api_key": "a\nb", "http_client": 3}
    wrong |= {"long_documents": "chunk", "passage_tokens": 3, "passage_overlap": -1}
    wrong |= {"aggregate": "median", "max_passages": 0}
    assert wrong.keys() == declared(RerankerOptions).keys()
    for name, value in wrong.items():
        others = {} if name == "long_documents" else {"long_documents": "passages"}
        with pytest.raises(ValidationError, match=name if name != "headers" else "header"):
            adapter(base_url=URL, **others, **{name: value}).compress_documents([], "q")


@pytest.mark.parametrize("takes_options", [Reranker, diagnose])
def test_an_unknown_option_is_refused(takes_options: Any) -> None:
    arguments: dict[str, Any] = {"timout": 3}
    with pytest.raises(TypeError, match="timout="):
        if takes_options is Reranker:
            Reranker(base_url=URL, **arguments)
        else:
            diagnose(URL, **arguments)
