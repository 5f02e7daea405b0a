"""Check the fields of a body, and say what is wrong with one in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from qwen3_reranker.gateway.errors import GatewayError

__all__ = ["TextDocument", "TopN", "validated"]

# What to give, by the type of pydantic's error.
_WANTED = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_from_float": "a whole number",
    "finite_number": "a whole number",
}
_DOCUMENT = "an object with a string under 'text'"
# Characters of a value that an error repeats.
_LONGEST_VALUE = 60

B = TypeVar("B", bound=BaseModel)


class TextDocument(BaseModel):
    """A document as an object, which Cohere v1 and Jina allow."""

    text: str


def _no_boolean(value: Any) -> Any:
    """Refuse true and false, which pydantic reads as 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "not a number")
    return value


def _above_zero(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None


TopN = Annotated[int | None, BeforeValidator(_no_boolean), AfterValidator(_above_zero)]
"""How many documents to return at most. Zero and less, which some clients send for all, is None."""


def validated(kind: type[B], data: dict[str, Any]) -> B:
    """
    Return a body with its fields checked.

    Raises:
        GatewayError: A field is missing, or has another type. The message names it with its value,
            and says what to give.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        message = _message(data, error.errors(include_url=False, include_input=False))
        raise GatewayError(422, message) from None


def _message(data: dict[str, Any], errors: Sequence[ErrorDetails]) -> str:
    """Return what is wrong with the first field that cannot be used."""
    name = str(errors[0]["loc"][0])
    if name not in data:
        return f"{name} is missing"
    value = data[name]
    about = [error for error in errors if error["loc"][0] == name]
    # A field that may be a list or something else has errors for each of them. If it is a list,
    # those about its items matter.
    positions = [_position(error) for error in about]
    if (position := next((p for p in positions if p is not None), None)) is not None:
        about = [e for e, p in zip(about, positions, strict=True) if p == position]
        name, value = f"{name}[{position}]", value[position]
    wanted = " or ".join(dict.fromkeys(map(_wanted, about)))
    return f"{name} is {_shown(value)}: give {wanted}"


def _position(error: ErrorDetails) -> int | None:
    """Return the position of an item that an error is about; None if it is about the whole."""
    return next((part for part in error["loc"][1:] if isinstance(part, int)), None)


def _wanted(error: ErrorDetails) -> str:
    if TextDocument.__name__ in error["loc"] or error["type"] == "model_type":
        return _DOCUMENT
    return _WANTED.get(error["type"], "another value")


def _shown(value: Any) -> str:
    """Return the beginning of a value as JSON."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # it writes 254 levels, and reads 1024
        return "a deeply nested value"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
