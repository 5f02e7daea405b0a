"""What every dialect makes of any answer: the scores in the order asked, or an `AnswerError`."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_reranker.dialects import ScoreRequest, dialects, find
from qwen3_reranker.errors import AnswerError

Rows = list[tuple[Any, Any]]
Shape = Callable[[Rows], Any]


def _results(rows: Rows) -> Any:
    return {"results": [{"index": i, "relevance_score": v} for i, v in rows], "usage": {}}


def _data(rows: Rows) -> Any:
    return {"data": [{"index": i, "object": "score", "score": v} for i, v in rows]}


def _bare(rows: Rows) -> Any:
    return [{"index": i, "score": v} for i, v in rows]


def _choices(rows: Rows) -> Any:
    return {
        "choices": [
            {"index": i, "logprobs": {"top_logprobs": [{"yes": v, "no": -1.0}]}} for i, v in rows
        ]
    }


# An answer of each dialect, from (index, number) pairs.
SHAPES: dict[str, Shape] = {
    **dict.fromkeys(
        ("vllm-rerank", "vllm-ascend", "llama.cpp", "infinity", "xinference"), _results
    ),
    **dict.fromkeys(("xinference-vllm", "litellm", "litellm-infinity", "rerank"), _results),
    **dict.fromkeys(("siliconflow", "dashscope", "jina"), _results),
    **dict.fromkeys(("cohere-v1", "cohere-v2"), _results),
    **dict.fromkeys(("vllm-score", "vllm-generative", "gateway"), _data),
    **dict.fromkeys(("tei", "sglang-rerank"), _bare),
    "completions": _choices,
    "dashscope-native": lambda rows: {"output": _results(rows)},
    "vllm-classify": lambda rows: {"data": [{"index": i, "probs": [v]} for i, v in rows]},
    "sglang-classify": lambda rows: {
        "data": [{"index": i, "label": "yes", "probs": [0.5, v]} for i, v in rows]
    },
    "sglang-score": lambda rows: {"scores": [[v, 0.5] for _, v in rows]},
    "deepinfra": lambda rows: {"scores": [v for _, v in rows]},
}
# These have no indices.
IN_ORDER = {"sglang-score", "deepinfra"}
# Where P(no) stands beside P(yes).
UNREAD = {("sglang-score", 1), ("sglang-classify", 0)}
NAMES = sorted(SHAPES)
WRONG_INDICES = [1, 2, -1, 10**30, 0.0, 0.5, "0", None, True, False, [0], {}]
WRONG_NUMBERS = [
    *(math.nan, math.inf, -math.inf, 10**400, -(10**400)),
    *(None, "0.5", "", [0.5], [], {}, {"score": 0.5}, True, False),
]
WRONG_CONTAINERS: list[Any] = [{}, [], "results", "", None, 5, 0.5, True, [[]], [None], ["x"], [5]]

KEYS = [
    *("index", "score", "relevance_score", "results", "data", "scores", "output", "choices"),
    *("logprobs", "top_logprobs", "probs", "label", "usage", "prompt_tokens", "total_tokens"),
    *("yes", "no"),
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


def expected(name: str, value: float) -> float:
    """What is read for a number in `SHAPES`."""
    return 1 / (1 + math.exp(-1 - value)) if name == "completions" else value


def holders(node: Any) -> Iterator[tuple[Any, Any]]:
    """All places in an answer: the container and the key."""
    for key in range(len(node)) if isinstance(node, list) else list(node):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from holders(node[key])


def test_no_dialect_is_left_out_here() -> None:
    assert {dialect.name for dialect in dialects()} == set(SHAPES)


@pytest.mark.parametrize("name", NAMES)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    random=st.randoms(use_true_random=False),
)
def test_scores_come_in_the_order_asked(name: str, values: list[float], random: Any) -> None:
    rows = list(enumerate(values))
    if name not in IN_ORDER:
        random.shuffle(rows)
    answer = json.loads(json.dumps(SHAPES[name](rows)))
    before = copy.deepcopy(answer)
    scores = find(name).parse(answer, len(values))
    assert scores == pytest.approx([expected(name, value) for value in values])
    assert all(type(score) is float for score in scores)
    assert answer == before


@pytest.mark.parametrize("name", [name for name in NAMES if name not in IN_ORDER])
def test_a_wrong_index_is_an_error(name: str) -> None:
    for index in WRONG_INDICES:
        for rows in ([(index, 0.5), (1, 0.5)], [(1, 0.5), (index, 0.5)]):
            with pytest.raises(AnswerError, match="index"):
                find(name).parse(SHAPES[name](rows), 2)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in IN_ORDER])
def test_a_missing_index_is_an_error(name: str) -> None:
    answer = SHAPES[name]([(0, 0.5), (1, 0.5)])
    for holder, key in list(holders(answer)):
        if key == "index":
            del holder[key]
    with pytest.raises(AnswerError, match="no index"):
        find(name).parse(answer, 2)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_finite_number_is_an_error(name: str) -> None:
    for value in WRONG_NUMBERS:
        with pytest.raises(AnswerError, match="not a finite number"):
            find(name).parse(SHAPES[name]([(0, 0.5), (1, value)]), 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_count_is_an_error(name: str) -> None:
    for got in (0, 1, 2, 4, 5):
        with pytest.raises(AnswerError, match="3"):
            find(name).parse(SHAPES[name]([(i, 0.5) for i in range(got)]), 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", WRONG_CONTAINERS, ids=repr)
def test_another_shape_is_an_error(name: str, wrong: Any) -> None:
    dialect, whole = find(name), SHAPES[name]([(0, 0.5), (1, 0.5)])
    with pytest.raises(AnswerError):
        dialect.parse(wrong, 2)
    assert dialect.usage(wrong) is None
    for place in range(len(list(holders(whole)))):
        answer = copy.deepcopy(whole)
        holder, key = list(holders(answer))[place]
        if key in ("usage", "object", "label") or (name, key) in UNREAD:
            continue
        # Whether a number is a probability is not the dialect's affair.
        number = type(wrong) in (int, float) and type(holder[key]) is float
        if number or (key, wrong) == ("probs", [5]):
            continue
        holder[key] = copy.deepcopy(wrong)
        with pytest.raises(AnswerError):
            dialect.parse(answer, 2)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), answer=json_values, count=st.integers(1, 3))
def test_any_answer_gives_scores_or_an_answer_error(
    name: str, data: st.DataObject, answer: Any, count: int
) -> None:
    if data.draw(st.booleans()):  # a right answer with something else in one place
        wrong, answer = answer, SHAPES[name]([(i, 0.5) for i in range(count)])
        holder, key = data.draw(st.sampled_from(list(holders(answer))))
        holder[key] = wrong
    dialect = find(name)
    try:
        scores = dialect.parse(answer, count)
    except AnswerError as error:
        assert len(str(error)) < 1000
    else:
        assert len(scores) == count
        assert all(type(score) is float and math.isfinite(score) for score in scores)
    tokens = dialect.usage(answer)
    assert tokens is None or (type(tokens) is int and tokens > 0)


texts = st.lists(st.text(max_size=20), min_size=1, max_size=4)
tokens = st.lists(st.integers(0, 200_000), max_size=8)


@pytest.mark.parametrize("name", NAMES)
@given(
    query=st.text(max_size=20),
    documents=texts,
    instruction=st.none() | st.text(max_size=20),
    model=st.none() | st.text(max_size=20),
    labels=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
    ids=st.tuples(tokens, st.lists(tokens, min_size=1, max_size=4)),
)
def test_a_request_is_json_and_leaves_what_it_was_made_of(
    name: str,
    query: str,
    documents: list[str],
    instruction: str | None,
    model: str | None,
    labels: tuple[int, int] | None,
    ids: tuple[list[int], list[list[int]]],
) -> None:
    dialect = find(name)
    requests = [ScoreRequest(query, documents, instruction, model, labels)]
    if dialect.ids:
        requests.append(ScoreRequest(*ids, instruction, model, labels))
    for request in requests:
        before = copy.deepcopy(request)
        http_request = dialect.build(request)
        assert json.loads(json.dumps(http_request.body)) == http_request.body
        http_request.body.clear()  # nobody's list or dictionary was handed out
        assert request == before
        assert dialect.build(request).body != {}


@pytest.mark.parametrize("name", ["vllm-classify", "sglang-classify"])
def test_one_label_or_two_are_read(name: str) -> None:
    two = {"data": [{"index": 0, "probs": [0.03, 0.97]}, {"index": 1, "probs": [0.9, 0.1]}]}
    one = {"data": [{"index": 1, "probs": [0.1]}, {"index": 0, "probs": [0.97]}]}
    assert find(name).parse(two, 2) == find(name).parse(one, 2) == [0.97, 0.1]
    for probs in ([], [0.1, 0.2, 0.7], 0.5, None, {"yes": 0.5}):
        with pytest.raises(AnswerError):
            find(name).parse({"data": [{"index": 0, "probs": probs}]}, 1)


def test_sglangs_errors_with_status_200_are_errors() -> None:
    answer = {"data": [{"index": 0, "label": "Default", "probs": [1.0], "num_classes": 1}]}
    with pytest.raises(AnswerError, match="failed on a document"):
        find("sglang-classify").parse(answer, 1)


def completion(**top: Any) -> Any:
    return {"choices": [{"index": 0, "logprobs": {"top_logprobs": [top]}}]}


def test_an_answer_that_is_not_among_the_most_likely_counts_as_minus_10() -> None:
    parse = find("completions").parse
    assert parse(completion(yes=-1.0, x=-2.0), 1) == pytest.approx([1 / (1 + math.exp(-9))])
    assert parse(completion(no=-1.0, Yes=-0.1), 1) == pytest.approx([1 / (1 + math.exp(9))])
    assert parse(completion(no=-10.0), 1) == [0.5]
    with pytest.raises(AnswerError, match=r"neither 'yes' nor 'no'.*'Yes', 'maybe'"):
        parse(completion(maybe=-1.0, Yes=-2.0), 1)
    nothings: list[Any] = [None, [], [None], {}, [[]]]
    for nothing in nothings:
        with pytest.raises(AnswerError, match="no top_logprobs"):
            parse({"choices": [{"index": 0, "logprobs": {"top_logprobs": nothing}}]}, 1)


def test_llama_cpps_logprobs_are_read() -> None:
    # Recorded from llama.cpp's server (xllamacpp 2026.10.11549), two of the 20 tokens of each.
    top = [
        {"id": 9693, "token": "yes", "bytes": [121, 101, 115], "logprob": -0.25},
        {"id": 2152, "token": "no", "bytes": [110, 111], "logprob": -1.5},
    ]
    first = {**top[0], "top_logprobs": top}
    second = {**top[0], "top_logprobs": [top[0], {"token": "", "logprob": -1.0}]}
    choices = [
        {"text": "yes", "index": index, "logprobs": {"content": [content]}}
        for index, content in ((1, second), (0, first))
    ]
    parse = find("completions").parse
    assert parse({"choices": choices}, 2) == pytest.approx(
        [1 / (1 + math.exp(-1.25)), 1 / (1 + math.exp(-9.75))]
    )
    wrong: list[Any] = [None, [], [None], [{}], [{"top_logprobs": None}]]
    wrong += [[{"top_logprobs": [entry]}] for entry in (None, "yes", {"token": ["yes"]})]
    for content in wrong:
        with pytest.raises(AnswerError):
            parse({"choices": [{"index": 0, "logprobs": {"content": content}}]}, 1)


@given(yes=st.floats(allow_nan=False, allow_infinity=False), no=st.floats(-1e308, 0))
@example(yes=-1e308, no=0.0)
@example(yes=1e308, no=-1e308)
@example(yes=-1.7e308, no=0.0)
def test_any_logprobs_give_a_probability(yes: float, no: float) -> None:
    [score] = find("completions").parse(completion(yes=yes, no=no), 1)
    assert 0 <= score <= 1
    assert score >= 0.5 if yes >= no else score <= 0.5
