"""Parse base URLs, and build the URLs of a server's endpoints."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from qwen3_reranker.dialects import Dialect, dialects
from qwen3_reranker.errors import InputError

__all__ = ["Address"]


@dataclass(frozen=True)
class Address:
    """
    The parts of a base URL: a server's root, its `/v1`, or the full URL of an endpoint.

    Attributes:
        url: The URL, without a trailing slash.
        host: The host name.
        origin: The scheme, host and port.
        prefix: The path in front of all paths of the server.
        endpoint: The path of the endpoint that the URL ends with; None if it does not.
        rest: The part after the endpoint, which is a model's name.
    """

    url: str
    host: str
    origin: str
    prefix: str
    endpoint: str | None
    rest: str

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """
        Parse a base URL.

        Args:
            base_url: The URL.

        Raises:
            InputError: It is not an http or https URL, has a query or a fragment, or contains a
                user name or a password.
        """
        try:
            url = httpx.URL(str(base_url).strip())
        except (httpx.InvalidURL, UnicodeError):  # the message may quote the password
            raise InputError(
                f"base_url={_shown(base_url)} is not a URL: give one like http://localhost:8000"
            ) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(
                f"base_url={_shown(base_url)}: give a URL with its scheme, like "
                "http://localhost:8000"
            )
        if url.query or url.fragment:
            raise InputError(
                f"base_url={_shown(base_url)} has a query or a fragment: send what the "
                "server needs to know in headers="
            )
        if url.userinfo:
            # It would be visible in every repr and message.
            raise InputError(
                f"base_url={_shown(base_url)} contains a user or a password: give api_key=, or "
                'headers={"Authorization": ...}'
            )
        path = url.raw_path.decode().partition("?")[0].rstrip("/")
        origin = str(url.copy_with(raw_path=b"/", fragment=None)).rstrip("/")
        prefix, endpoint, rest = _split(path)
        return cls(origin + path, url.host, origin, prefix, endpoint, rest)

    @classmethod
    def parse_all(cls, base_url: str | Sequence[str]) -> list[Address]:
        """
        Parse one base URL or several, and return each server once.

        Args:
            base_url: The URL, or a list of URLs.

        Raises:
            InputError: There is no URL, or one of them cannot be used; see `parse()`.
        """
        if not isinstance(base_url, (str, Sequence)):
            raise InputError(f"base_url={base_url!r}: give a URL, or a list of URLs")
        urls = [base_url] if isinstance(base_url, str) else list(base_url)
        if not urls:
            raise InputError(f"base_url={base_url!r}: give at least one URL")
        for url in urls:
            if not isinstance(url, str):
                raise InputError(f"base_url= has {url!r:.80}, which is not a URL: give strings")
        addresses = map(cls.parse, urls)
        return list({address.url: address for address in addresses}.values())

    def at(self, path: str) -> str:
        """
        Return the URL of a path on this server.

        If the base URL ends with the beginning of the path, that part is not repeated: `/v1` and
        `/v1/rerank` give `/v1/rerank`.

        Args:
            path: The path, such as "/v1/rerank".
        """
        prefix, pieces = self.prefix, path.strip("/").split("/")
        for size in range(len(pieces), 0, -1):
            common = "/" + "/".join(pieces[:size])
            if prefix.endswith(common):
                return self.origin + prefix.removesuffix(common) + path
        version = prefix.rpartition("/")[2]
        if version[:1] == "v" and version[1:].isdigit() and self.endpoint is None:
            prefix = prefix.removesuffix("/" + version)
        return self.origin + prefix + path

    def serves(self, dialect: Dialect) -> str | None:
        """Return the path to use for a dialect; None if the URL has an endpoint of another one."""
        if self.endpoint is None:
            return dialect.paths[0]
        return self.endpoint if self.endpoint in dialect.paths else None

    @property
    def secure(self) -> bool:
        """Whether requests are encrypted."""
        return self.origin.startswith("https://")

    @property
    def private(self) -> bool:
        """
        Whether the host is this machine or in a private network, judging by its name only.

        Names are not resolved, because that takes time, and because the connection may be made to
        another address than the one that DNS returned here. A name is private if it cannot be in
        public DNS: names without a dot, and those below `_PRIVATE_DOMAINS`.
        """
        host = self.host.lower().rstrip(".")
        labels = host.split(".")
        if ":" in host or _NUMBER.fullmatch(labels[-1]):
            return _is_private_ip(host)
        if len(labels) == 1:  # two letters are a country's domain, which may be a host
            return re.fullmatch("[a-z]{2}", host) is None
        return any(host.endswith("." + domain) for domain in _PRIVATE_DOMAINS)

    def hosts(self, dialect: Dialect) -> bool:
        """Return whether the host belongs to the hosted service of a dialect."""
        return any(self.host == d or self.host.endswith("." + d) for d in dialect.hosts)


# Domains that public DNS does not have: RFC 6761, RFC 6762, RFC 8375, and ICANN's resolution of
# July 2024 on .internal. Inside a Kubernetes cluster, the names of services end with "svc".
_PRIVATE_DOMAINS = ("localhost", "local", "home.arpa", "internal", "svc")
# Resolvers accept "2130706433" and "0x7f.1" as IPv4 addresses.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRIVATE_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/32", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        *("::/128", "::1/128", "fc00::/7"),
    )
]


def _is_private_ip(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # another notation, which ipaddress does not accept
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _PRIVATE_NETWORKS)


def _split(path: str) -> tuple[str, str | None, str]:
    """Split a path into the part before an endpoint, the endpoint, and the part after it."""
    known = {p: d.model_in_path for d in dialects() for p in d.paths}
    for endpoint in sorted(known, key=len, reverse=True):
        if path.endswith(endpoint):
            return path.removesuffix(endpoint), endpoint, ""
        before, separator, rest = path.partition(endpoint + "/")
        if separator and known[endpoint]:
            return before, endpoint, rest
    return path, None, ""


def _shown(base_url: object) -> str:
    """Return a base URL for an error message, without a password."""
    return repr(re.sub(r"^(.*//)?.*@", r"\1***@", str(base_url), flags=re.DOTALL))
