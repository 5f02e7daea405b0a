"""What the page's functions enter into its components."""

from __future__ import annotations

from typing import Any

import gradio as gr
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import Reranker
from qwen3_reranker.playground.examples import EXAMPLES
from qwen3_reranker.playground.inputs import FileContent, Inputs
from qwen3_reranker.playground.models import Models
from qwen3_reranker.playground.page import _Page
from qwen3_reranker.playground.state_link import write_link

from support.playground import PageScorer, rerankers

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
files = st.builds(
    FileContent,
    st.sampled_from(["a.txt", "a.csv", "a.jsonl", "a.json"]),
    text | st.sampled_from(["title,abstract\na,b", '{"abstract": "a"}', '["a", "b"]']),
)
inputs = st.builds(
    Inputs,
    query=text,
    text=text | st.integers().map(lambda seed: " ".join(map(str, range(seed % 9000)))),
    file=st.none() | files,
    field=text | st.sampled_from(["title", "abstract"]),
    top_n=st.none() | st.integers(-(2**63), 2**63 - 1),
    min_score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    long_documents=st.sampled_from(["cut", "passages"]),
    model=st.sampled_from(["", "one", "two"]),
    compare=st.booleans(),
    other_model=st.sampled_from(["", "one", "two"]),
)
PAGES = {
    "one way": _Page(Models.of([Reranker(scorer=PageScorer("one"))])),
    "passages": _Page(Models.of(rerankers(PageScorer("one"))[1:])),
    "two ways": _Page(Models.of(rerankers(PageScorer("one")))),
    "two models": _Page(Models.of(rerankers(PageScorer("one"), PageScorer("two")))),
}


def entered(page: _Page, changes: dict[Any, Any]) -> dict[str, Any]:
    """Return what components then have, as the page reads it in its next event."""
    values = {}
    for component in page._shown.inputs:
        change = changes.get(component, component.value)
        update = change if isinstance(change, dict) and "__type__" in change else {"value": change}
        value = update.get("value", component.value)
        if isinstance(component, gr.Dropdown | gr.Radio):
            choices = update.get("choices", component.choices)
            choices = [choice[1] if isinstance(choice, tuple) else choice for choice in choices]
            assert value is None or value in choices
        elif not isinstance(component, gr.State):
            assert component.preprocess(value) == value
        if not isinstance(component, gr.State):
            orjson.dumps(value)  # as it is sent to the browser
        values[component.label] = value
    return values


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@given(inputs)
def test_a_page_can_be_used_after_any_link(page: _Page, shared: Inputs) -> None:
    entered(page, page._restore(write_link(shared).fragment))


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_page_can_be_used_after_any_example(page: _Page, name: str) -> None:
    values = entered(page, page._fill(EXAMPLES[name]))
    assert values["Query"] == EXAMPLES[name].query


def test_a_link_from_a_page_that_scores_passages_says_that_this_one_does_not() -> None:
    link = write_link(Inputs("q", text="a", long_documents="passages")).fragment
    said = {name: page._restore(link)[page._shown.message] for name, page in PAGES.items()}
    assert "does not score long documents as the page of the link did" in said["one way"]
    assert said["two ways"] == said["passages"] == ""


def test_uploads_are_deleted_after_about_an_hour() -> None:
    frequency, age = PAGES["one way"].blocks.delete_cache or (0, 0)
    assert age == 3600
    assert 0 < frequency <= 300
