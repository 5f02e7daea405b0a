"""The chat templates for other programs write the prompts that the client writes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qwen3_reranker.model.template import (
    CONTROL_TOKENS,
    DEFAULT_INSTRUCTION,
    PREFIX,
    SUFFIX,
    TEMPLATES,
    TextWriter,
)

PIECES = st.lists(
    st.sampled_from([*CONTROL_TOKENS, "<", "<|", "|>", "im_end", "a", " ", "\n", "{{"])
)
TEXT = PIECES.map("".join)


@pytest.mark.parametrize("options", [{}, {"trim_blocks": True, "lstrip_blocks": True}])
@pytest.mark.parametrize(
    ("file", "roles", "name"),
    [
        ("vllm_score.jinja", ("query", "document"), "instruction"),
        ("sglang_rerank.jinja", ("user", "user"), "instruct"),
    ],
)
@given(query=TEXT, document=TEXT, instruction=TEXT | st.none())
def test_the_templates_write_what_the_client_writes(
    options: dict[str, bool],
    file: str,
    roles: tuple[str, str],
    name: str,
    query: str,
    document: str,
    instruction: str | None,
) -> None:
    template = compiled(file, **options)
    messages = [{"role": r, "content": c} for r, c in zip(roles, (query, document), strict=True)]
    writer = TextWriter()
    asked = DEFAULT_INSTRUCTION if instruction is None else instruction
    expected = writer.head(query, asked) + writer.tail(writer.escape_control_tokens(document))
    assert template.render({"messages": messages, name: instruction}) == expected
    assert expected.endswith("</think>\n\n")
    if instruction is None:
        assert template.render({"messages": messages}) == expected


@given(query=TEXT, document=TEXT, instruction=TEXT.filter(bool))
def test_a_system_message_is_the_instruction(query: str, document: str, instruction: str) -> None:
    """sentence-transformers makes one of `prompt=`."""
    template = compiled("vllm_score.jinja", trim_blocks=True, lstrip_blocks=True)
    contents = {"system": instruction, "query": query, "document": document}
    messages = [{"role": role, "content": content} for role, content in contents.items()]
    writer = TextWriter()
    tail = writer.tail(writer.escape_control_tokens(document))
    assert template.render({"messages": messages}) == writer.head(query, instruction) + tail
    asked = template.render({"messages": messages, "instruction": "other"})
    assert asked == writer.head(query, "other") + tail


CONTENT = (
    TEXT
    | st.none()
    | st.integers()
    | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), max_size=2)
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "user", "assistant", "tool", "query", "document"]),
            "content": CONTENT,
            "name": TEXT,
        },
    ),
    max_size=4,
)


@pytest.mark.parametrize("file", ["vllm_score.jinja", "sglang_rerank.jinja"])
@given(messages=MESSAGES)
@example(messages=[{"role": "user", "content": "warmup"}])  # vLLM 0.32, when it starts
def test_the_templates_render_any_messages(file: str, messages: list[dict[str, Any]]) -> None:
    prompt = compiled(file, trim_blocks=True, lstrip_blocks=True).render({"messages": messages})
    assert prompt.startswith(PREFIX) and prompt.endswith(SUFFIX)
    # Whatever they hold, no message ends its turn or opens another.
    assert sum(map(prompt.count, CONTROL_TOKENS)) == sum(
        map((PREFIX + SUFFIX).count, CONTROL_TOKENS)
    )


@cache
def compiled(file: str, **options: bool) -> Any:
    environment = ImmutableSandboxedEnvironment(**options)
    return environment.from_string((TEMPLATES / file).read_text())


def test_sglang_takes_its_template_for_the_right_models() -> None:
    text = (TEMPLATES / "sglang_rerank.jinja").read_text()
    assert 'answer can only be "yes" or "no"' in text
    # One with these is taken for a template of Qwen3-VL.
    assert "<|vision_start|>" not in text
    assert "<|image_pad|>" not in text
