"""The message in an error's body, in every shape that servers have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_reranker.remote.responses import error_message

_VALIDATION = "1 validation error:\n  {'type': 'missing', 'loc': 'body.query'}"
HTML = b"""<!DOCTYPE html><html><head><title>502 Bad Gateway</title><style>p{color:red}</style>
</head><body><h1>502 Bad Gateway</h1><script>x()</script><hr>nginx &amp; co</body></html>"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            {"error": {"message": _VALIDATION, "type": "Bad Request", "param": "q", "code": 400}},
            _VALIDATION,
            id="vLLM",
        ),
        pytest.param({"error": "Unauthorized"}, "Unauthorized", id="vLLM's key"),
        pytest.param(
            {"object": "error", "message": "Query cannot be empty", "code": 400},
            "Query cannot be empty",
            id="SGLang, older vLLM",
        ),
        pytest.param({"error": {"message": "no ids"}}, "no ids", id="SGLang's own"),
        pytest.param({"detail": "Not Found"}, "Not Found", id="FastAPI"),
        pytest.param(
            {"detail": [{"type": "missing", "loc": ["body", "texts"], "msg": "Field required"}]},
            "Field required (body.texts)",
            id="FastAPI's validation",
        ),
        pytest.param(
            {"error": "batch size 33 > maximum allowed batch size 32", "error_type": "Validation"},
            "batch size 33 > maximum allowed batch size 32",
            id="TEI",
        ),
        pytest.param(
            {"error": {"code": 500, "message": "input is too large", "type": "server_error"}},
            "input is too large",
            id="llama.cpp",
        ),
        pytest.param(
            {"code": "InvalidParameter", "message": "too long", "request_id": "x"},
            "too long",
            id="DashScope",
        ),
        pytest.param(
            {"code": 20012, "message": "Model does not exist.", "data": None},
            "Model does not exist.",
            id="SiliconFlow",
        ),
        pytest.param({"detail": {"error": "no balance"}}, "no balance", id="DeepInfra"),
        pytest.param({"message": "invalid api token"}, "invalid api token", id="Cohere"),
        pytest.param("just text", "just text", id="a string"),
        pytest.param({"status": "bad"}, '{"status": "bad"}', id="unknown keys"),
        pytest.param({"error": "", "message": "this"}, "this", id="an empty one first"),
    ],
)
def test_the_message_is_found(body: Any, message: str) -> None:
    assert error_message(json.dumps(body).encode()) == message


def test_what_is_not_json_is_shown_as_text() -> None:
    assert error_message(b"") == ""
    assert error_message(b" upstream  timed\nout ") == "upstream timed out"
    text = error_message(HTML)
    assert text.startswith("502 Bad Gateway") and "nginx & co" in text
    assert not {"<", "{", "x()"} & set(text)
    assert len(error_message(b"x" * 10**6)) <= 1000
    assert len(error_message(json.dumps({"error": "x" * 10**5}).encode())) <= 1000


KEYS = ["error", "message", "detail", "errors", "msg", "error_message", "error_type", "code", "loc"]
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.binary() | odd.map(lambda value: json.dumps(value).encode()))
@example(b'"\\ud800"')
@example(b"[" * 100_000)
@example(b'{"error":' * 10_000 + b"1" + b"}" * 10_000)
@example(b"\xff\xfe{\x00}\x00")
def test_any_body_has_a_message(body: bytes) -> None:
    message = error_message(body)
    assert isinstance(message, str)
    assert len(message) < 1200
    message.encode()  # no lone surrogates, so that it can be written to files
