"""The configuration of a gateway, from Python and from a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import InputError, Reranker
from qwen3_reranker.gateway import AliasConfig, GatewayConfig, Limits, create_app, read_config
from qwen3_reranker.gateway.backend import Backend

from support.docs_pages import blocks
from support.gateway import RelevanceScorer, client_of
from support.helpers import DescendingScorer
from support.scripted_server import DOCUMENTS, QUERY


def written(folder: Path, text: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(text, "utf-8")
    return file


def test_the_file_of_the_guide_is_read(tmp_path: Path) -> None:
    [text] = [block.text for block in blocks("how-to/gateway.md") if block.language == "toml"]
    config = read_config(written(tmp_path, text))
    assert config == GatewayConfig(
        default=AliasConfig(
            instruction="Given a question, retrieve passages that answer it", min_score=0.05
        ),
        limits=Limits(max_documents=200, request_timeout=30),
        aliases={
            "tickets": AliasConfig(
                instruction="Given a bug report, retrieve reports of the same bug",
                top_n=10,
                selection={"drop_duplicates": True},
            ),
            "books": AliasConfig(
                long_documents={"long_documents": "passages", "passage_tokens": 256}
            ),
        },
    )


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "")) == GatewayConfig()


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "\ufefftop_n = 3\n")).default.top_n == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("instruction", "is not TOML"),
        ("instructions = 'x'", "instructions: unknown key: give one of aggregate, aliases"),
        ("[aliases.faq]\nmin = 1", r"aliases\.faq\.min: unknown key: give one of aggregate"),
        ("[limits]\nmax = 1", r"limits\.max: unknown key: give one of max_active"),
        ("aliases = 3", r"aliases: 3: give a table, \[aliases\]"),
        ("[aliases]\nfaq = 'x'", r"aliases\.faq: 'x': give a table, \[aliases\.faq\]"),
        ("model = 3", "model: 3: give a string"),
        ("instruction = 3", "instruction=3: give a str"),
        ("[aliases.faq]\nmin_score = 2", r"aliases\.faq: min_score=2: scores are probabilities"),
        ("[aliases.faq]\nmin_score = 'x'", r"aliases\.faq: min_score='x': give a number"),
        ("top_n = 0", "top_n=0: give a whole number of at least 1"),
        ("[aliases.faq]\npassage_tokens = 64", r"aliases\.faq: passage_tokens= can be used only"),
        ("long_documents = 'whole'", "long_documents='whole': give one of 'cut', 'passages'"),
        ("drop_duplicates = 'yes'", "drop_duplicates='yes': give True"),
        ("[limits]\nmax_queue = -1", "limits: max_queue=-1: give a whole number of at least 0"),
        ("[limits]\nmax_active = 0", "limits: max_active=0: give a whole number of at least 1"),
        ("[limits]\nmax_body = true", "limits: max_body=True: give a whole number"),
        ("[limits]\nrequest_timeout = 0", "limits: request_timeout=0: give a number of seconds"),
        ("[limits]\nrequest_timeout = inf", "limits: request_timeout=inf: give a number of sec"),
        ("model = 'm'\n[aliases.m]", "the alias 'm' is named like the model"),
        ("[aliases.' ']", "the name ' ' is blank"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_config(file)
    assert str(caught.value).count(str(file)) == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: No such file .*: give a file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "latin").write_bytes("instruction = 'é'".encode("latin-1"))
    with pytest.raises(InputError, match="latin is not TOML"):
        read_config(tmp_path / "latin")


def test_keys_are_not_shown_and_not_blank() -> None:
    assert "geheim" not in repr(GatewayConfig(keys=("geheim",)))
    with pytest.raises(InputError, match="an API key is blank"):
        GatewayConfig(keys=("geheim", " "))
    with pytest.raises(InputError, match="give a tuple of keys, even of one"):
        GatewayConfig(keys="geheim")  # type: ignore[arg-type]


# What an alias does


def body(model: str | None, **more: Any) -> dict[str, Any]:
    return {"model": model, "query": QUERY, "documents": DOCUMENTS, **more}


async def found(config: GatewayConfig, **more: Any) -> list[int]:
    """Return the indexes that a request gets."""
    make = partial(Reranker, scorer=DescendingScorer())
    async with client_of(create_app(make, config)) as client:
        response = await client.post("/rerank", json=body("faq", **more))
        assert response.json()["model"] == "faq"
        return [result["index"] for result in response.json()["results"]]


@pytest.mark.parametrize(
    ("default", "alias", "kept"),
    [
        ({}, {}, 7),
        ({}, {"min_score": 0.25}, 3),
        ({"min_score": 0.25}, {}, 3),
        ({"min_score": 0.25}, {"min_score": 0.0}, 7),
        ({}, {"top_n": 2}, 2),
        ({"top_n": 2}, {"top_n": 4}, 4),
        ({"selection": {"token_budget": 1, "token_counter": len}}, {}, 0),
        (
            {"selection": {"token_budget": 1, "token_counter": len}},
            {"selection": {"token_budget": 99}},
            2,
        ),
        ({"long_documents": {"long_documents": "passages"}}, {"top_n": 1}, 1),
    ],
)
@pytest.mark.filterwarnings("ignore::qwen3_reranker.RerankerWarning")
async def test_an_alias_selects_and_inherits(default: Any, alias: Any, kept: int) -> None:
    config = GatewayConfig(default=AliasConfig(**default), aliases={"faq": AliasConfig(**alias)})
    assert await found(config) == list(range(kept))


async def test_the_request_has_the_last_word_on_top_n_and_instruction() -> None:
    scorer = RelevanceScorer()
    aliases = {"faq": AliasConfig(instruction="Find the answer", top_n=2)}
    app = create_app(partial(Reranker, scorer=scorer), GatewayConfig(aliases=aliases))
    async with client_of(app) as client:
        for more, count, instruction in (
            ({}, 2, "Find the answer"),
            ({"top_n": 3, "instruction": "mine"}, 3, "mine"),
            ({"instruction": " "}, 2, "Find the answer"),
        ):
            response = await client.post("/rerank", json=body("faq", **more))
            assert len(response.json()["results"]) == count
            assert scorer.calls[-1][2] == instruction


async def test_scores_are_never_left_out_at_the_score_api() -> None:
    aliases = {"faq": AliasConfig(min_score=0.99, top_n=1)}
    app = create_app(partial(Reranker, scorer=RelevanceScorer()), GatewayConfig(aliases=aliases))
    async with client_of(app) as client:
        pairs = {"model": "faq", "text_1": QUERY, "text_2": DOCUMENTS}
        assert len((await client.post("/score", json=pairs)).json()["data"]) == len(DOCUMENTS)


@pytest.mark.parametrize(
    ("own", "used"),
    [
        ({}, {"long_documents": "passages", "passage_tokens": 256, "max_passages": 4}),
        (
            {"long_documents": "passages", "max_passages": 8},
            {"long_documents": "passages", "passage_tokens": 256, "max_passages": 8},
        ),
        ({"long_documents": "cut"}, {"long_documents": "cut"}),
    ],
)
def test_an_alias_inherits_each_option_for_long_documents(own: Any, used: Any) -> None:
    default: Any = {"long_documents": "passages", "passage_tokens": 256, "max_passages": 4}
    made: list[dict[str, Any]] = []

    def make(**options: Any) -> Reranker:
        made.append(options)
        return Reranker(scorer=RelevanceScorer())

    aliases = {"books": AliasConfig(long_documents=own)}
    config = GatewayConfig(default=AliasConfig(long_documents=default), aliases=aliases)
    Backend(make, config)
    assert (made[0], made[-1]) == (default, used)


def test_aliases_with_other_long_documents_share_an_engine() -> None:
    passages: Any = {"long_documents": "passages"}
    config = GatewayConfig(
        aliases={
            "cut": AliasConfig(instruction="one"),
            "books": AliasConfig(instruction="two", long_documents=passages),
            "more books": AliasConfig(instruction="three", long_documents=passages),
        }
    )
    backend = Backend(partial(Reranker, "demo"), config)
    assert [reranker.long_documents for reranker in backend.rerankers] == ["cut", "passages"]
    assert backend.aliases["books"].reranker is backend.aliases["more books"].reranker
    with (
        Reranker("demo") as reranker,
        pytest.raises(InputError, match=r"give create_app\(\) a function that makes rerankers"),
    ):
        create_app(reranker, config)


@pytest.mark.parametrize("name", [None, "", " ", "relevance", "rerank-v3.5"])
async def test_without_aliases_every_name_means_the_model(name: str | None) -> None:
    async with client_of(create_app(partial(Reranker, scorer=RelevanceScorer()))) as client:
        response = await client.post("/rerank", json=body(name))
        assert response.json()["model"] == "relevance"


async def test_with_aliases_an_unknown_name_is_an_error_that_lists_them() -> None:
    config = GatewayConfig(model="served", aliases={"faq": AliasConfig()})
    app = create_app(partial(Reranker, scorer=RelevanceScorer()), config)
    async with client_of(app) as client:
        response = await client.post("/rerank", json=body("fag"))
        assert response.status_code == 404
        message = "the model 'fag' is not served: give one of 'served', 'faq'"
        assert response.json()["error"]["message"] == message
        assert (await client.post("/rerank", json=body("served"))).json()["model"] == "served"


async def test_the_application_closes_what_it_made_and_nothing_else() -> None:
    made, given = RelevanceScorer(), RelevanceScorer()
    async with client_of(create_app(partial(Reranker, scorer=made))):
        pass
    async with client_of(create_app(Reranker(scorer=given))):
        pass
    assert (made.closed, given.closed) == (True, False)
