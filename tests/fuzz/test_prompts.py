"""Whatever is asked: the model card's prompt around it, or an error that names what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import Reranker, RerankerError
from qwen3_reranker.model.template import CONTROL_TOKENS, PREFIX, SUFFIX

from fuzz.mutations import any_json, any_text, no_text
from support.prompts import BUILDERS

BUILDER = BUILDERS["demo"]
texts = st.one_of(
    any_text,
    st.lists(st.sampled_from([*CONTROL_TOKENS, "<|", "|>", "<think"]) | any_text, max_size=9).map(
        "".join
    ),
    st.tuples(any_text, st.integers(1, 3000)).map(lambda pair: (pair[0] * pair[1])[:20_000]),
)


@pytest.fixture(scope="module", params=[128, 4096])
def reranker(request: pytest.FixtureRequest) -> Iterator[Reranker]:
    """The demo model, whose engine is not started."""
    with Reranker("demo", max_length=request.param) as reranker:
        yield reranker


@given(query=texts, document=texts, instruction=st.none() | texts)
@pytest.mark.timeout(900)
def test_a_prompt(reranker: Reranker, query: str, document: str, instruction: str | None) -> None:
    try:
        prompt = reranker.prompt(query, document, instruction)
    except RerankerError as error:
        assert str(error)
        return
    ids, suffix = prompt.ids, BUILDER.suffix_ids
    inner = ids[len(BUILDER.prefix_ids) : -len(suffix)]
    assert ids == BUILDER.prefix_ids + inner + suffix
    assert len(ids) <= BUILDER.max_length
    assert not BUILDER.control_ids.intersection(inner)
    assert prompt.text.startswith(PREFIX) and prompt.text.endswith(SUFFIX)
    written = prompt.text.removeprefix(PREFIX).removesuffix(SUFFIX)
    assert not any(token in written for token in CONTROL_TOKENS)


@given(query=no_text | texts, documents=any_json | st.lists(no_text | texts, max_size=4))
@pytest.mark.timeout(900)
def test_something_else_as_a_text(reranker: Reranker, query: object, documents: object) -> None:
    if isinstance(documents, list):
        documents = [*documents, None]
    with pytest.raises(RerankerError):
        reranker.score(query, documents)  # type: ignore[arg-type]
