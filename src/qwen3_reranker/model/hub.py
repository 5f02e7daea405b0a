"""Download from the Hugging Face hub. No error shows the access token."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from qwen3_reranker.errors import CheckpointError, InputError
from qwen3_reranker.redaction import Redactor, Secret

__all__ = ["download_file", "download_folder"]

_SENDABLE = re.compile("[!-~](?:[ -~]*[!-~])?")


def download_file(name: str, file: str, revision: str | None, token: Secret | None) -> Path:
    """
    Return the path of one of a model's files in the hub's cache, downloaded if it is not there.

    Args:
        name: The model's name on the hub.
        file: The name of the file.
        revision: A branch, tag or commit. None uses the main branch.
        token: The access token. None uses the one that is logged in.

    Raises:
        InputError: The token cannot be sent.
        CheckpointError: There is no such file, or it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download  # slow to import, and only hub names need it

    return _download(
        lambda token: hf_hub_download(name, file, revision=revision, token=token),
        token,
        f"{name!r} is not a folder on this machine, and its {file} cannot be read from the "
        "Hugging Face hub",
    )


def download_folder(
    name: str, revision: str | None, token: Secret | None, *, ignored: Sequence[str]
) -> Path:
    """
    Return the folder of a model in the hub's cache, with all files that are not ignored.

    Args:
        name: The model's name on the hub.
        revision: A branch, tag or commit. None uses the main branch.
        token: The access token. None uses the one that is logged in.
        ignored: Patterns of the files that are not downloaded.

    Raises:
        InputError: The token cannot be sent.
        CheckpointError: A file cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    return _download(
        lambda token: snapshot_download(
            name, revision=revision, token=token, ignore_patterns=list(ignored)
        ),
        token,
        f"{name} cannot be downloaded from the Hugging Face hub",
    )


def _download(
    request: Callable[[str | bool | None], str], token: Secret | None, failure: str
) -> Path:
    """Call a function of the hub's library with the token."""
    sent: Secret | None = None
    try:
        sent = _token_to_send(token)
        return Path(request(None if token is None else token.reveal()))
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  # the library raises those of its HTTP client too
        message = Redactor([] if sent is None else [sent]).text(str(error))
        # Without the cause, because the frames of the hub's library hold the token.
        raise CheckpointError(f"{failure}: {type(error).__name__}: {message}") from None


def _token_to_send(token: Secret | None) -> Secret | None:
    """Return the token that a request contains, if the HTTP client does not refuse and show it."""
    from huggingface_hub import get_token

    # Revealed in expressions only, so that no traceback shows it.
    if token is None or token.reveal() is True:
        token = Secret.of(get_token())
    if token is None or token.reveal() is False:
        return None
    if not isinstance(token.reveal(), str) or not _SENDABLE.fullmatch(token.reveal()):
        raise InputError(
            "the access token of the Hugging Face hub cannot be sent: give a str of printable "
            "ASCII characters, without spaces or a newline around it"
        )
    return token
