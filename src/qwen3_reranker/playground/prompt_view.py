"""Show a prompt as colored tokens and as text."""

from __future__ import annotations

import re

from qwen3_reranker.markup import Html, join, tag
from qwen3_reranker.model.prompt import Prompt, PromptToken
from qwen3_reranker.model.template import CONTROL_TOKENS

__all__ = ["MAX_TOKENS", "prompt_html"]

MAX_TOKENS = 4000
"""The maximum number of tokens shown: the first ones and, because the suffix matters, the last."""

_LAST = 100
_COLORS = 5
_VISIBLE = str.maketrans({"\n": "⏎\n", "\t": "⇥\t"})


def prompt_html(prompt: Prompt, note: str = "") -> Html:
    """
    Return a prompt as tokens and as text.

    Args:
        prompt: The prompt.
        note: What else the reader should know of it.
    """
    notes = [note] if note else []
    if prompt.tokens:
        control = sum(token.control for token in prompt.tokens)
        notes.insert(0, f"{len(prompt.tokens):,} tokens, {control} of them control tokens.")
    else:
        notes.insert(0, "The tokenizer of the server's model is not on this machine.")
    if prompt.truncated:
        notes.append("The end of the document was cut off.")
    parts = [tag("p", " ".join(notes), class_="usage")]
    if prompt.tokens:
        parts += [tag("h3", "As tokens"), tag("pre", _tokens(prompt.tokens), class_="tokens")]
    parts += [tag("h3", "As text"), tag("pre", _text(prompt), class_="prompt")]
    return tag("section", *parts, class_="prompt-view")


def _tokens(tokens: list[PromptToken]) -> Html:
    if len(tokens) <= MAX_TOKENS:
        return join(*(_token(token, n) for n, token in enumerate(tokens)))
    hidden = len(tokens) - MAX_TOKENS
    start = len(tokens) - _LAST
    return join(
        *(_token(token, n) for n, token in enumerate(tokens[: MAX_TOKENS - _LAST])),
        tag("span", f" … {hidden:,} tokens … ", class_="hidden"),
        *(_token(token, n) for n, token in enumerate(tokens[start:], start)),
    )


def _token(token: PromptToken, position: int) -> Html:
    kind = "control" if token.control else f"c{position % _COLORS}"
    text = token.text.translate(_VISIBLE)
    return tag("span", text, class_=f"token {kind}", title=f"token {position}, id {token.id}")


def _text(prompt: Prompt) -> Html:
    """Return the text, with control tokens marked; only the template contains any."""
    control = {token.text for token in prompt.tokens if token.control} or set(CONTROL_TOKENS)
    pattern = re.compile("(" + "|".join(map(re.escape, sorted(control))) + ")")
    return join(
        *(
            tag("span", part, class_="token control") if part in control else part
            for part in pattern.split(prompt.text)
        )
    )
