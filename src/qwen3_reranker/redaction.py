"""Keep secrets out of reprs, tracebacks with local variables, and servers' messages."""

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
]


class Secret:
    """
    A value that its repr does not show, so that no traceback with local variables does.

    Call `reveal()` only where the value is sent, in an expression and not for a variable.

    Args:
        value: The secret value, usually a str.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    @classmethod
    def of(cls, value: Any) -> Secret | None:
        """Wrap a value. None and a `Secret` are returned unchanged."""
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
    Return a copy of the options in which everything that may be secret is wrapped.

    This applies to the API key, the URL of the proxy, the value of each header, and the hub's
    access token among the engine arguments.
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
    """Return a copy of the engine arguments in which the hub's access token is wrapped."""
    concealed = dict(engine_args)
    if "hf_token" in concealed:
        concealed["hf_token"] = Secret.of(concealed["hf_token"])
    return concealed


def conceal_headers(headers: Any) -> Any:
    """Return a copy of the headers with each value wrapped. Other types are wrapped as a whole."""
    if isinstance(headers, Mapping):
        return {name: Secret.of(value) for name, value in headers.items()}
    return Secret.of(headers)


class Redactor:
    """
    Replace secrets in a server's output, which may repeat what the server was sent.

    A secret is found in its plain form and in the escaped forms of JSON, HTML and URLs. For a
    value such as "Bearer KEY" the last word counts as a secret, too. Words of up to three
    characters are not replaced.

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
        # The longest come first, so that "Bearer KEY" is replaced as a whole.
        self._patterns = Secret([_pattern(word) for word in sorted(words, key=len, reverse=True)])

    def text(self, text: str) -> str:
        """Return the text with each secret replaced by "***"."""
        for fixed, pattern in self._patterns.reveal():
            if fixed in text:
                text = re.sub(pattern, "***", text)
        return text

    def body(self, body: bytes) -> bytes:
        """
        Return a body with each secret replaced by "***".

        Call it before the body is cut or parsed.
        """
        for fixed, pattern in self._patterns.reveal():
            if fixed.encode() in body:
                body = re.sub(pattern.encode(), b"***", body)
        return body

    def strings(self, body: bytes) -> bytes:
        """
        Return a JSON body with each secret in its strings replaced by "***".

        Numbers are left as they are, so that the body stays JSON.
        """
        return _STRING.sub(lambda found: b'"%b"' % self.body(found[1]), body)


_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def _pattern(word: str) -> tuple[str, str]:
    """Return a part of a word that no escaping changes, for a quick search, and its pattern."""
    fixed = max(re.findall("[0-9A-Za-z]+", word), key=len, default="")
    return fixed, "".join(map(_any_form, word))


def _any_form(character: str) -> str:
    """Return a pattern for a character in its plain form, or escaped as in JSON, HTML or a URL."""
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
