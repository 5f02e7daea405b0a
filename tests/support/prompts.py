"""Tokenizers and texts for the tests of prompts."""

from __future__ import annotations

import json

from hypothesis import strategies as st
from tokenizers import Tokenizer

from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder

from support.helpers import QWEN3_TOKENIZER

OFFICIAL = QWEN3_TOKENIZER.read_text("utf-8")
FULL = Tokenizer.from_str(OFFICIAL)
ADDED = [token["content"] for token in json.loads(OFFICIAL)["added_tokens"]]
BUILDERS = {
    "official": PromptBuilder(OFFICIAL),
    "demo": PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8")),
}

# Hypothesis draws single characters. These texts have caused errors in practice.
awkward = st.sampled_from(
    [
        "\r\n",
        "\n",
        " ",
        "\t",
        "中文",
        "，",
        "é",
        "e\u0301",
        "\u0338",
        "👩‍👩‍👧",
        "\u200b",
        "don't",
        "12345",
    ]
)
text = st.lists(st.one_of(awkward, st.characters(exclude_categories=["Cs"])), max_size=30).map(
    "".join
)
tokens = st.sampled_from([*ADDED, "<|im_", "end|>", "<|", "|>", "<", ">"])
hostile = st.lists(st.one_of(tokens, text), max_size=12).map("".join)
