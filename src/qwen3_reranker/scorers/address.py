"""Where a server is: the root, `/v1` or a full path that a user gives, and the URLs that follow."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from qwen3_reranker.errors import InputError
from qwen3_reranker.scorers.dialects import Dialect, dialects

__all__ = ["Address"]


@dataclass(frozen=True)
class Address:
    """
    A base URL, taken apart.

    Attributes:
        url: As given, without what it may say of a user and a password.
        host: The host's name.
        root: What all paths of the server come after.
        endpoint: The path of an endpoint that the URL ends with, None where it names none.
        rest: What follows the endpoint (a model's name).
        auth: The value of an Authorization header, where the URL holds user and password.
    """

    url: str
    host: str
    root: str
    endpoint: str | None
    rest: str
    auth: str | None

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """
        Take a base URL apart.

        Raises:
            InputError: It is no http or https URL, or has a query.
        """
        try:
            url = httpx.URL(str(base_url).strip())
        except httpx.InvalidURL as error:
            raise InputError(f"base_url={base_url!r} is no URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(
                f"base_url={base_url!r}: give a URL with its scheme, like http://localhost:8000"
            )
        if url.query or url.fragment:
            raise InputError(
                f"base_url={base_url!r} has a query or a fragment: give what the server needs to "
                "know in headers="
            )
        auth = None
        if url.userinfo:
            auth = _basic(url)
            url = url.copy_with(username=None, password=None)
        path = url.path.rstrip("/")
        bare = str(url.copy_with(path="/")).rstrip("/")
        prefix, endpoint, rest = _split(path)
        return cls(bare + path, url.host, bare + prefix, endpoint, rest, auth)

    def at(self, path: str) -> str:
        """
        Return the URL of a path on this server.

        What the end of the given URL and the beginning of the path have in common stands there
        once: `/v1` and `/v1/rerank` make `/v1/rerank`.
        """
        root, pieces = self.root, path.strip("/").split("/")
        for size in range(len(pieces), 0, -1):
            common = "/" + "/".join(pieces[:size])
            if root.endswith(common):
                return root.removesuffix(common) + path
        version = root.rsplit("/", 1)[-1]
        if version[:1] == "v" and version[1:].isdigit() and self.endpoint is None:
            root = root.removesuffix("/" + version)
        return root + path

    def serves(self, dialect: Dialect) -> str | None:
        """Return the dialect's path on this server: the URL's own endpoint, or the usual one."""
        if self.endpoint is None:
            return dialect.paths[0]
        return self.endpoint if self.endpoint in dialect.paths else None


def _split(path: str) -> tuple[str, str | None, str]:
    """Return what comes before an endpoint in `path`, the endpoint and what follows it."""
    known = sorted({p for dialect in dialects() for p in dialect.paths}, key=len, reverse=True)
    for endpoint in known:
        if path.endswith(endpoint):
            return path.removesuffix(endpoint), endpoint, ""
        before, found, rest = path.partition(endpoint + "/")
        if found:
            return before, endpoint, rest
    return path, None, ""


def _basic(url: httpx.URL) -> str:
    request = httpx.Request("GET", url.copy_with(username=None, password=None))
    return next(httpx.BasicAuth(url.username, url.password).auth_flow(request)).headers[
        "Authorization"
    ]
