"""Report the parts of a request that a server cannot serve."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

from qwen3_reranker.errors import RerankerWarning, UnsupportedFeatureError
from qwen3_reranker.remote.detection import Route

__all__ = ["SupportReporter"]


class SupportReporter:
    """
    Warn about each limitation of a server once, or raise an error.

    Args:
        on_unsupported: "warn" to warn about a request that a server cannot fully serve, or "raise"
            to raise an `UnsupportedFeatureError`.
        max_length_given: Whether the user set a maximum length.
    """

    def __init__(self, on_unsupported: Literal["warn", "raise"], *, max_length_given: bool) -> None:
        self._raises = on_unsupported == "raise"
        self._max_length_given = max_length_given
        self._warned: set[str] = set()

    def check(
        self, url: str, route: Route, texts: Sequence[str], *, ignores_instruction: bool
    ) -> None:
        """
        Report what a server cannot do for a request.

        Args:
            url: The server.
            route: The route of the request.
            texts: The documents.
            ignores_instruction: Whether an instruction was given that the server does not use.

        Raises:
            UnsupportedFeatureError: There is such a limitation, and `on_unsupported` is "raise".
        """
        for warning in route.warnings:
            self.warn(f"{url}: {warning}")
        if ignores_instruction:
            self._report(
                f"an instruction was given, but {route.dialect.name} at {url} does not use it: the "
                "instruction in the server's template applies"
            )
        if route.encoder.can_truncate:
            return
        if self._max_length_given:
            self._report(
                f"max_length was given, but there is no tokenizer to count tokens with for {url}: "
                "give tokenizer="
            )
        limit = route.encoder.max_length
        # A token has at least one byte.
        if route.dialect.cuts_silently and any(len(text.encode()) > limit for text in texts):
            self._report(
                f"a document may be longer than the {limit} tokens that {url} takes, and "
                f"{route.dialect.name} truncates a prompt without an error, which makes its score "
                "meaningless. There is no tokenizer to truncate the document with: give tokenizer="
            )

    def warn(self, message: str) -> None:
        """Issue a `RerankerWarning`, unless the same message was issued before."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, RerankerWarning, stacklevel=2)

    def _report(self, message: str) -> None:
        if self._raises:
            raise UnsupportedFeatureError(f'{message} (on_unsupported="raise")')
        self.warn(message)
