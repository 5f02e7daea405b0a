"""Keep keys out of what people see: reprs, tracebacks with local variables, messages of servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "Redactor",
    "Secret",
    "conceal",
    "conceal_headers",
    "conceal_token",
    "reveal_token",
]


class Secret:
    """
    A value whose repr does not show it, so that no traceback with local variables does.

    It is unwrapped where it is sent, in an expression rather than a variable.

    Args:
        value: What is to be kept secret, usually a str.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    @classmethod
    def of(cls, value: Any) -> Secret | None:
        """Return `value` as a secret; None and secrets are returned as they are."""
        return value if value is None or isinstance(value, Secret) else cls(value)

    def reveal(self) -> Any:
        """Return the value."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"


def conceal(options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return options with everything concealed that may be secret.

    That is the API key, the proxy's URL, each header's value, and the hub's access token among the
    engine arguments.
    """
    concealed = dict(options)
    for name in {"api_key", "proxy"} & concealed.keys():
        concealed[name] = Secret.of(concealed[name])
    if "headers" in concealed:
        concealed["headers"] = conceal_headers(concealed["headers"])
    if isinstance(concealed.get("engine_args"), Mapping):
        concealed["engine_args"] = conceal_token(concealed["engine_args"])
    return concealed


def conceal_token(engine_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return engine arguments with the hub's access token concealed."""
    concealed = dict(engine_args)
    if "hf_token" in concealed:
        concealed["hf_token"] = Secret.of(concealed["hf_token"])
    return concealed


def reveal_token(engine_args: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `conceal_token`."""
    token = engine_args.get("hf_token")
    return {**engine_args, "hf_token": token.reveal()} if token else dict(engine_args)


def conceal_headers(headers: Any) -> Any:
    """Return headers with each value concealed; what is no mapping is concealed as a whole."""
    if isinstance(headers, Mapping):
        return {name: Secret.of(value) for name, value in headers.items()}
    return Secret.of(headers)


class Redactor:
    """
    Replaces secrets in what a server says, which may repeat what it was sent.

    A secret is found as it is and escaped as in JSON, HTML or a URL. Of a value like
    "Bearer KEY" the last word is one too. Words of up to three characters are left alone.

    Args:
        secrets: The secrets, each a str.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        words = {
            word
            for secret in secrets
            for word in (secret.reveal(), secret.reveal().rpartition(" ")[2])
            if len(word) > 3
        }
        # The longest first, so that "Bearer KEY" is replaced as a whole.
        self._patterns = Secret([_pattern(word) for word in sorted(words, key=len, reverse=True)])

    def text(self, text: str) -> str:
        """Return `text` with "***" for each secret."""
        for fixed, pattern in self._patterns.reveal():
            if fixed in text:
                text = re.sub(pattern, "***", text)
        return text

    def body(self, body: bytes) -> bytes:
        """Return a body with "***" for each secret, before anything is cut from it or parsed."""
        for fixed, pattern in self._patterns.reveal():
            if fixed.encode() in body:
                body = re.sub(pattern.encode(), b"***", body)
        return body

    def strings(self, body: bytes) -> bytes:
        """Return a JSON body with "***" for each secret in its strings; numbers stay as they are."""
        return _STRING.sub(lambda found: b'"%b"' % self.body(found[1]), body)


_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def _pattern(word: str) -> tuple[str, str]:
    """Return a part of `word` that no escaping changes, to look for first, and its pattern."""
    fixed = max(re.findall("[0-9A-Za-z]+", word), key=len, default="")
    return fixed, "".join(map(_any_form, word))


def _any_form(character: str) -> str:
    """Return a pattern for a character as it is, or escaped as in JSON, HTML or a URL."""
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    names = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
    forms = [
        rf"\\*{re.escape(character)}",
        rf"\\+u00{_either_case(code)}",
        f"%{_either_case(code)}",
        f"&#0*{code};",
        f"&#[xX]0*{_either_case(code)};",
    ]
    if character == " ":
        forms.append(r"\+")
    if character in names:
        forms.insert(0, f"&{names[character]};")
    return f"(?:{'|'.join(forms)})"


def _either_case(code: int) -> str:
    return "".join(f"[{d.lower()}{d.upper()}]" if d.isalpha() else d for d in f"{code:02x}")
