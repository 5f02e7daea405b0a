"""Count tokens with a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from operator import index

from qwen3_reranker.errors import InputError

__all__ = ["count_tokens", "validate_counter"]


def validate_counter(counter: object) -> None:
    """
    Check that an object can count tokens.

    Raises:
        InputError: It is neither None nor callable.
    """
    if counter is not None and not callable(counter):
        raise InputError(
            f"token_counter={counter!r}: give a function from a text to its number of tokens, or "
            "None"
        )


def count_tokens(counter: Callable[[str], int], text: str) -> int:
    """
    Return the number of tokens of a text.

    Args:
        counter: Returns the number: an int, or another whole number such as NumPy's.
        text: The text.

    Raises:
        InputError: `counter` returned something other than a number of tokens.
    """
    found = counter(text)
    with suppress(TypeError):  # of what is not a whole number
        if not isinstance(found, bool) and (number := index(found)) >= 0:
            return number
    raise InputError(f"token_counter= returned {found!r:.80}: it must return an int, 0 or more")
