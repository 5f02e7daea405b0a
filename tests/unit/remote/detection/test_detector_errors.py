"""Servers that cannot be used, and what is said of each."""

from __future__ import annotations

from typing import Any

import pytest

from qwen3_reranker.dialects import TemplateBy, find
from qwen3_reranker.errors import DetectionError, InputError, ServerError
from qwen3_reranker.remote.responses import RetryableError

from support.fake_reranker import DEMO, SGLANG, TEI, VLLM, FakeReranker, unreachable

LLAMA = {"/props": {"default_generation_settings": {"n_ctx": 8192}}}


async def problem(server: FakeReranker, base_url: str = "http://h", **settings: Any) -> str:
    with pytest.raises(DetectionError) as error:
        await server.detector(base_url, **settings).run()
    return str(error.value)


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (
            lambda right, _: 0.1 if right else 0.9,
            "P(no) is returned instead of P(yes) (0.1 against 0.9 and 0.9; ",
        ),
        (
            lambda right, _: 0.5,
            "all scores are 0.5, because the classifier's head was not loaded (0.5 against",
        ),
        (
            lambda right, _: 1.0,
            "the scores do not depend on the query or on the document (1 against 1",
        ),
        (lambda right, _: 1e-20, "all scores are almost 0 (about 1e-20"),
        (
            lambda right, _: 0.52 if right else 0.48,
            "relevant passages do not score clearly higher than irrelevant ones (0.52 against",
        ),
    ],
    ids=["inverted", "no head", "equal", "no gguf head", "squeezed"],
)
async def test_scores_of_no_reranker_are_named(scores: Any, text: str) -> None:
    server = FakeReranker({"/classify": "classify"}, VLLM, scores=scores)
    message = await problem(server, tokenizer=DEMO)
    assert message.startswith("nothing at http://h (vLLM 0.32.0) scores as a Qwen3 reranker does")
    assert f"- vllm-classify: {text}" in message
    assert "not there: vllm-generative, vllm-score, vllm-rerank" in message
    assert '\nStart vLLM with --runner pooling and --hf-overrides \'{"architectures": ' in message


async def test_the_advice_is_the_kinds_own() -> None:
    def half(right: bool, templates: int) -> float:
        return 0.5

    sglang = await problem(FakeReranker({"/v1/rerank": "bare"}, SGLANG, scores=half))
    assert "(SGLang)" in sglang and "without --is-embedding" in sglang
    llama = await problem(FakeReranker({"/v1/rerank": "rerank"}, LLAMA, template=True, scores=half))
    assert "(llama.cpp)" in llama and "GGUF file that has the head" in llama
    owned = {"/v1/models": {"data": [{"id": "m", "owned_by": "infinity"}]}}
    infinity = await problem(FakeReranker({"/rerank": "rerank"}, owned, scores=half))
    assert "(Infinity)" in infinity and "one label" in infinity and "--labels 1" in infinity
    bare = await problem(FakeReranker({"/v1/rerank": "rerank"}, LLAMA, scores=half))
    assert "llama.cpp: neither the client nor the server writes the template (the serv" in bare
    assert bare.splitlines()[-1].startswith("Start the server with a Qwen3 reranker's template")
    unknown = await problem(FakeReranker({"/v1/rerank": "rerank"}, scores=half))
    assert "(an unknown kind)" in unknown and "qwen3-reranker serve MODEL --print shell" in unknown
    assert unknown.count("Check --hf-overrides") == 1


async def test_where_nothing_is_there_all_that_was_tried_is_listed() -> None:
    message = await problem(FakeReranker({}))
    absent = message.partition("not there: ")[2].partition("\n")[0].split(", ")
    assert {"vllm-classify", "sglang-score", "vllm-score", "rerank", "tei", "completions"} <= set(
        absent
    )
    assert not {"jina", "deepinfra", "siliconflow"} & set(absent)
    assert "404" not in message


async def test_an_unknown_model_is_no_missing_path() -> None:
    unknown = ServerError("http://h answered 404: The model `nope` does not exist.", 404)
    paths = dict.fromkeys(("/classify", "/v1/score", "/v1/rerank"), unknown)
    message = await problem(FakeReranker({**paths}, VLLM), model="nope")
    assert "- vllm-classify: http://h answered 404: The model `nope` does not exist." in message
    assert "not there: vllm-generative, completions" in message.replace("rerank, ", "")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_the_error(status: int) -> None:
    refused = ServerError(
        f"http://h answered {status}: Unauthorized. Give the right api_key=", status
    )
    server = FakeReranker(dict.fromkeys(("/classify", "/v1/score", "/v1/rerank"), refused), VLLM)
    with pytest.raises(ServerError, match="Unauthorized") as error:
        await server.detector(tokenizer=DEMO).run()
    assert error.value is refused


@pytest.mark.parametrize(
    "error", [unreachable(), RetryableError("http://h answered 503: loading", 503)]
)
async def test_a_temporarily_failing_server_is_not_judged(error: RetryableError) -> None:
    for paths in ({"/classify": error}, {"/v1/rerank": error}):
        with pytest.raises(RetryableError) as raised:
            await FakeReranker({**paths}, VLLM).detector(tokenizer=DEMO).run()
        assert raised.value is error
    server = FakeReranker({"/classify": "classify"}, VLLM)
    server.get = nowhere  # type: ignore[method-assign]
    with pytest.raises(RetryableError, match="no connection"):
        await server.detector(tokenizer=DEMO).run()


async def nowhere(path: str) -> Any:
    raise unreachable()


async def test_a_transient_failure_of_one_template_mode_does_not_select_the_other() -> None:
    server = FakeReranker({"/v1/rerank": "rerank"}, VLLM)
    plain = server.rerank

    def busy(body: Any) -> Any:
        if "<|im_start|>" in body["query"]:
            raise RetryableError("http://h answered 429: slow down", 429)
        return plain(body)

    server.rerank = busy  # type: ignore[method-assign]
    with pytest.raises(RetryableError, match="slow down"):
        await server.detector().run()


async def test_an_error_that_is_the_dialects_own_moves_on() -> None:
    broken = RetryableError("http://h answered 500: no such method", 500, here=False)
    server = FakeReranker({"/classify": broken, "/v1/rerank": "rerank"}, VLLM)
    assert (await server.detector(tokenizer=DEMO).run()).dialect.name == "vllm-rerank"


@pytest.mark.parametrize(
    ("template", "forced", "text"),
    [
        (True, "client", "both the client and the server write the template"),
        (False, "server", "neither the client nor the server writes the template"),
    ],
)
async def test_a_template_forced_on_the_wrong_side_is_reported(
    template: bool, forced: TemplateBy, text: str
) -> None:
    server = FakeReranker({"/v1/rerank": "rerank"}, VLLM, template=template)
    message = await problem(server, template=forced)
    assert text in message and "the server counted" in message
    other = "client" if forced == "server" else "server"
    assert f"template='{other}'" in message
    assert "--hf-overrides" not in message  # the server is right, the argument is not
    silent = FakeReranker({"/v1/rerank": "rerank"}, VLLM, template=template, usage=False)
    message = await problem(silent, template=forced)
    assert "do not score clearly higher" in message or "P(no) is returned" in message


@pytest.mark.parametrize(
    ("name", "forced", "template_by"),
    [("vllm-classify", "server", "client"), ("siliconflow", "client", "server")],
)
async def test_a_template_that_a_dialect_cannot_have_is_refused(
    name: str, forced: TemplateBy, template_by: TemplateBy
) -> None:
    message = await problem(FakeReranker({}, VLLM), dialect=find(name), template=forced)
    assert f"template='{forced}': with {name} the template is always the {template_by}'s" in message


async def test_a_dialect_that_is_given_is_the_only_one_tried() -> None:
    server = FakeReranker({"/classify": "classify"}, VLLM)
    message = await problem(server, dialect=find("tei"))
    assert message == "http://h (vLLM 0.32.0), dialect tei: http://h answered 404: Not Found"
    assert {path for path, _ in server.asked} == {"/rerank"}


async def test_another_shape_is_shown() -> None:
    server = FakeReranker({"/rerank": "wrapped"}, TEI)
    server.wrapped = lambda body: {"results": []}  # type: ignore[attr-defined]
    with pytest.raises(DetectionError, match=r"- tei: the answer is not a list: {'results': \[\]"):
        await server.detector(dialect=find("tei")).run()
    html = RetryableError("http://h answered with something that is not JSON: 'Welcome'", 200)
    message = await problem(FakeReranker({"/rerank": html}), "http://h/rerank")
    assert "- rerank: http://h answered with something that is not JSON: 'Welcome'" in message


@pytest.mark.parametrize("length", [2049, 8192])
async def test_a_max_length_above_the_servers_is_refused(length: int) -> None:
    server = FakeReranker({"/classify": "classify"}, VLLM)
    with pytest.raises(InputError, match=f"max_length={length} is above .* 2048 or less"):
        await server.detector(max_length=length).run()


@pytest.mark.parametrize("length", [None, 0, -1, "2048", True, [2048], {}])
async def test_an_invalid_length_is_ignored(length: Any) -> None:
    gets = {"/version": {"version": "0.32.0"}}
    server = FakeReranker({"/classify": "classify", "/tokenize": "tokenize"}, gets)
    plain = server.tokenize
    server.tokenize = lambda body: plain(body) | {"max_model_len": length}  # type: ignore[method-assign]
    route = await server.detector(tokenizer=DEMO).run()
    assert route.encoder.max_length == 8191  # a token is left for the answer
