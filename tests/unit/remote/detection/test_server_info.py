"""What a server says of itself, read from answers recorded or documented."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.errors import ServerError
from qwen3_reranker.remote.detection import ServerInfo, read_server_info
from qwen3_reranker.remote.responses import RetryableError


def model(name: str, owner: str, **more: Any) -> Any:
    return {"id": name, "object": "model", "created": 1795255915, "owned_by": owner, **more}


def models(*found: Any) -> Any:
    return {"object": "list", "data": list(found)}


# vLLM 0.32.0 and SGLang 0.5.23 as recorded, the others as documented.
VLLM_MODEL = model("/tmp/demo", "vllm", root="/tmp/demo", parent=None, max_model_len=2048)
VLLM = {"/version": {"version": "0.32.0"}, "/v1/models": models(VLLM_MODEL)}
SGLANG_INFO = {
    "model_path": "/tmp/demo",
    "served_model_name": "/tmp/demo",
    "tokenizer_path": "/tmp/tokenizer",
    "is_generation": True,
    "weight_version": "default",
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
}
SGLANG = {
    "/v1/models": models(
        model("/tmp/demo", "sglang", root="/tmp/demo", parent=None, max_model_len=2048)
    ),
    "/model_info": SGLANG_INFO,
    "/get_model_info": SGLANG_INFO,
}
TEI = {
    "/info": {
        "model_id": "Qwen/Qwen3-Reranker-0.6B",
        "model_sha": None,
        "model_dtype": "float16",
        "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        "max_concurrent_requests": 512,
        "max_input_length": 4096,
        "max_batch_tokens": 16384,
        "max_batch_requests": None,
        "max_client_batch_size": 32,
        "auto_truncate": False,
        "tokenization_workers": 8,
        "version": "1.8.3",
        "sha": "abc",
        "docker_label": None,
    }
}
GATEWAY = {
    "/version": {"version": "0.2.0", "software": "qwen3-reranker"},
    "/info": TEI["/info"],
    "/v1/models": models(
        model("demo", "qwen3-reranker", root="demo", model_type="rerank"),
        model("faq", "qwen3-reranker", root="demo", model_type="rerank"),
    ),
}
LLAMA = {
    "/v1/models": {
        "models": [{"name": "qwen3-reranker.gguf", "model": "qwen3-reranker.gguf"}],
        **models(model("qwen3-reranker.gguf", "llamacpp", meta={"n_ctx_train": 40960})),
    },
    "/props": {
        "default_generation_settings": {"n_ctx": 8192},
        "total_slots": 4,
        "model_path": "/models/qwen3-reranker.gguf",
        "build_info": "b7000-0123abcd",
    },
}
INFINITY_TITLE = "♾️ Infinity - Embedding Inference Server"
INFINITY = {"/openapi.json": {"openapi": "3.1.0", "info": {"title": INFINITY_TITLE}}}
INFINITY_PREFIXED = {"/v1/models": models(model("Qwen/Qwen3-Reranker-0.6B", "infinity", stats={}))}
XINFERENCE = {
    "/v1/models": models(model("Qwen3-Reranker-0.6B", "xinference", model_type="rerank")),
    "/v1/cluster/version": {
        "date": "2025-09-30T12:00:00+0800",
        "dirty": False,
        "error": None,
        "full-revisionid": "0123abcd",
        "version": "1.10.1",
    },
}
LITELLM = {
    "/v1/models": models(model("my-reranker", "openai")),
    "/openapi.json": {"openapi": "3.1.0", "info": {"title": "LiteLLM API", "version": "1.80.0"}},
}
MINE = "Qwen/Qwen3-Reranker-0.6B"


class Server:
    """Answers GETs from a table; what is not in it is a 404."""

    def __init__(self, answers: Any, other: Any = None) -> None:
        self.answers = answers
        self.other = other or ServerError("answered 404: Not Found", 404)
        self.asked: list[str] = []

    async def get(self, path: str) -> Any:
        self.asked.append(path)
        answer = self.answers.get(path, self.other)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def info_of(answers: Any, other: Any = None) -> ServerInfo:
    return await read_server_info(Server(answers, other).get)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param(
            VLLM, ServerInfo("vLLM", "0.32.0", ("/tmp/demo",), ("/tmp/demo",), 2048), id="vLLM"
        ),
        pytest.param(
            {"/version": {"version": "0.9.2"}, "/v1/models": models(model("m", "vllm"))},
            ServerInfo("vLLM", "0.9.2", ("m",)),
            id="old vLLM",
        ),
        pytest.param(
            SGLANG,
            ServerInfo("SGLang", None, ("/tmp/demo",), ("/tmp/demo", "/tmp/tokenizer"), 2048),
            id="SGLang",
        ),
        pytest.param(
            {"/get_model_info": SGLANG_INFO},
            ServerInfo("SGLang", None, (), ("/tmp/demo", "/tmp/tokenizer")),
            id="old SGLang",
        ),
        pytest.param(TEI, ServerInfo("TEI", "1.8.3", (MINE,), (MINE,), 4096), id="TEI"),
        pytest.param(
            LLAMA,
            ServerInfo("llama.cpp", "b7000-0123abcd", ("qwen3-reranker.gguf",), (), 8192),
            id="llama.cpp",
        ),
        pytest.param(INFINITY, ServerInfo("Infinity"), id="Infinity"),
        pytest.param(
            INFINITY_PREFIXED, ServerInfo("Infinity", None, (MINE,)), id="Infinity at /v1"
        ),
        pytest.param(
            XINFERENCE,
            ServerInfo("Xinference", "1.10.1", ("Qwen3-Reranker-0.6B",)),
            id="Xinference",
        ),
        pytest.param(LITELLM, ServerInfo("LiteLLM", None, ("my-reranker",)), id="LiteLLM"),
        pytest.param(
            GATEWAY,
            ServerInfo("qwen3-reranker", "0.2.0", ("demo", "faq"), ("demo",)),
            id="gateway",
        ),
        pytest.param({}, ServerInfo(), id="404 everywhere"),
    ],
)
async def test_a_server_is_identified_by_its_answers(answers: Any, expected: ServerInfo) -> None:
    found = await info_of(answers)
    assert (found.kind, found.version) == (expected.kind, expected.version)
    assert (found.models, found.sources) == (expected.models, expected.sources)
    assert found.max_length == expected.max_length


async def test_a_served_name_and_the_model_behind_it_are_told_apart() -> None:
    listed = [VLLM_MODEL | {"id": "ranker"}, VLLM_MODEL | {"id": "ranker-2"}]
    found = await info_of(VLLM | {"/v1/models": models(*listed)})
    assert (found.models, found.sources) == (("ranker", "ranker-2"), ("/tmp/demo",))


async def test_vllm_is_known_though_its_models_are_behind_a_key() -> None:
    refused = ServerError("answered 401: Unauthorized", 401)
    found = await info_of(VLLM | {"/v1/models": refused})
    assert (found.kind, found.version, found.models) == ("vLLM", "0.32.0", ())
    # SGLang guards everything, unknown paths too.
    assert (await info_of({}, refused)).kind is None


async def test_the_large_page_is_read_only_where_nothing_else_told() -> None:
    for answers, asked in ((VLLM, False), (SGLANG, False), (LLAMA, False), (LITELLM, True)):
        server = Server(answers)
        await read_server_info(server.get)
        assert ("/openapi.json" in server.asked) == asked
        assert len(server.asked) == len(set(server.asked))


@pytest.mark.parametrize(
    "answer",
    ["<html>", "SGLang is running", [], {}, None, 0, True, {"version": None}, {"data": "x"}],
    ids=repr,
)
async def test_a_server_that_answers_the_same_everywhere_is_unknown(answer: Any) -> None:
    found = await info_of({}, answer if answer is not None else ServerError("html", 200))
    assert found.models == found.sources == ()
    assert found.max_length is None
    assert str(found) in ("an unknown kind", "vLLM")


async def test_html_everywhere_is_an_unknown_kind() -> None:
    found = await info_of({}, RetryableError("answered with something that is not JSON", 200))
    assert str(found) == "an unknown kind"


async def test_only_a_server_that_cannot_be_reached_stops_it() -> None:
    for status in (401, 403, 404, 429, 500, 502, 503):
        assert str(await info_of({}, RetryableError("no", status))) == "an unknown kind"
    for lost in (RetryableError("no connection"), RetryableError("no answer in 5 s", here=False)):
        with pytest.raises(RetryableError) as caught:
            await info_of({}, lost)
        assert caught.value is lost


@pytest.mark.parametrize("here", [True, False], ids=["dropped", "silent"])
@pytest.mark.parametrize("path", ["/v1/models", "/models", "/version", "/info", "/props"])
async def test_a_path_without_an_answer_stays_unknown(path: str, here: bool) -> None:
    lost = RetryableError("no connection", here=here)
    found = await info_of(VLLM | {path: lost})
    assert (found.kind, found.max_length) == ("vLLM", None if path == "/v1/models" else 2048)
    assert found.refusal is None


@pytest.mark.parametrize(("pages", "silent"), [(False, None), (True, "/version")])
async def test_large_pages_are_not_waited_for(pages: bool, silent: str | None) -> None:
    asked = []

    async def get(path: str) -> Any:
        asked.append(path)
        if path == silent:
            raise RetryableError("no answer within 15 s", here=False)
        raise ServerError("404", 404)

    assert (await read_server_info(get, pages=pages)).kind is None
    assert "/version" in asked
    assert "/openapi.json" not in asked


async def test_a_connection_that_is_lost_once_is_made_again() -> None:
    server = Server(VLLM)
    plain, lost = server.get, [RetryableError("no connection")]

    async def get(path: str) -> Any:
        if path == "/v1/models" and lost:
            raise lost.pop()
        return await plain(path)

    assert (await read_server_info(get)).models == ("/tmp/demo",)


PATHS = (
    *("/v1/models", "/version", "/model_info", "/get_model_info", "/info"),
    *("/v1/cluster/version", "/props"),
)
KEYS = [
    *("data", "id", "owned_by", "root", "max_model_len", "version", "info", "title", "model_id"),
    *("model_path", "tokenizer_path", "is_generation", "max_client_batch_size", "build_info"),
    *("max_input_length", "full-revisionid", "default_generation_settings"),
]
WORDS = st.sampled_from(["vllm", "sglang", "infinity", "LiteLLM", "m", "", "0.32.0"])
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
listed = st.fixed_dictionaries(
    {"data": st.lists(st.fixed_dictionaries({"id": st.just("m"), "owned_by": odd}) | odd)}
)
wrong = st.sampled_from([ServerError("no", 404), RetryableError("no", 503)])


@given(
    answers=st.dictionaries(
        st.sampled_from([*PATHS, "/openapi.json"]), odd | listed | wrong, max_size=8
    )
)
async def test_no_answer_breaks_it(answers: Any) -> None:
    found = await info_of(answers)
    assert all(isinstance(text, str) and text for text in (*found.models, *found.sources))
    assert found.max_length is None or (type(found.max_length) is int and found.max_length > 0)
    assert found.version is None or isinstance(found.version, str)
    assert str(found)


@pytest.mark.parametrize("path", PATHS)
@given(whole=st.sampled_from([VLLM, SGLANG, TEI, LLAMA, XINFERENCE, INFINITY_PREFIXED]), value=odd)
async def test_no_wrong_type_in_a_field_breaks_it(path: str, whole: Any, value: Any) -> None:
    answer = whole.get(path)
    fields = [*answer] if isinstance(answer, dict) else []
    for field in fields:
        await info_of(whole | {path: answer | {field: value}})
    if path == "/v1/models" and answer:
        for field in answer["data"][0]:
            await info_of(whole | {path: models(answer["data"][0] | {field: value})})
