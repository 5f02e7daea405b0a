"""Where a server is: the root, `/v1` or a full path that a user gives, and the URLs that follow."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import httpx

from qwen3_reranker.dialects import Dialect, dialects
from qwen3_reranker.errors import InputError

__all__ = ["Address"]


@dataclass(frozen=True)
class Address:
    """
    A base URL, taken apart.

    Attributes:
        url: As given.
        host: The host's name.
        origin: Scheme, host and port.
        prefix: The path that all paths of the server come after.
        endpoint: The path of an endpoint that the URL ends with, None where it names none.
        rest: What follows the endpoint (a model's name).
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
        Take a base URL apart.

        Raises:
            InputError: It is no http or https URL, or has a query, or holds a password.
        """
        try:
            url = httpx.URL(str(base_url).strip())
        except httpx.InvalidURL:  # its message may quote the password
            raise InputError(
                f"base_url={_shown(base_url)} is no URL: give one like http://localhost:8000"
            ) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(
                f"base_url={_shown(base_url)}: give a URL with its scheme, like "
                "http://localhost:8000"
            )
        if url.query or url.fragment:
            raise InputError(
                f"base_url={_shown(base_url)} has a query or a fragment: give what the server "
                "needs to know in headers="
            )
        if url.userinfo:
            # It would stand in every repr and message.
            raise InputError(
                f"base_url={_shown(base_url)} holds a user or a password: give api_key=, or "
                'headers={"Authorization": ...}'
            )
        path = url.raw_path.decode().partition("?")[0].rstrip("/")
        origin = str(url.copy_with(raw_path=b"/", fragment=None)).rstrip("/")
        prefix, endpoint, rest = _split(path)
        return cls(origin + path, url.host, origin, prefix, endpoint, rest)

    def at(self, path: str) -> str:
        """
        Return the URL of a path on this server.

        What the end of the given URL and the beginning of the path have in common stands there
        once: `/v1` and `/v1/rerank` make `/v1/rerank`.
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
        """Return the dialect's path on this server: the URL's own endpoint, or the usual one."""
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
        Whether the host is this machine, or one of a private network, by its name alone.

        Names are not resolved, because an answer of DNS may differ from the one that the
        connection is made with, and because it costs time. So a name is private where public DNS
        does not have it: see `_PRIVATE_DOMAINS`, and names without a dot.
        """
        host = self.host.lower().rstrip(".")
        labels = host.split(".")
        if ":" in host or _NUMBER.fullmatch(labels[-1]):
            return _is_private_ip(host)
        if len(labels) == 1:  # two letters are a country's domain, and some of these are hosts
            return re.fullmatch("[a-z]{2}", host) is None
        return any(host.endswith("." + domain) for domain in _PRIVATE_DOMAINS)

    def hosts(self, dialect: Dialect) -> bool:
        """Return whether this is a host of the dialect's hosted service."""
        return any(self.host == d or self.host.endswith("." + d) for d in dialect.hosts)


# What public DNS does not have: RFC 6761, RFC 6762, RFC 8375, ICANN's resolution of July 2024 on
# .internal. "svc" is what Kubernetes' names of services end with inside a cluster.
_PRIVATE_DOMAINS = ("localhost", "local", "home.arpa", "internal", "svc")
# Resolvers read "2130706433" and "0x7f.1" as addresses of IPv4.
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
    except ValueError:  # another form of an address, which ipaddress does not read
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _PRIVATE_NETWORKS)


def _split(path: str) -> tuple[str, str | None, str]:
    """Return what comes before an endpoint in `path`, the endpoint and what follows it."""
    known = {p: d.model_in_path for d in dialects() for p in d.paths}
    for endpoint in sorted(known, key=len, reverse=True):
        if path.endswith(endpoint):
            return path.removesuffix(endpoint), endpoint, ""
        before, found, rest = path.partition(endpoint + "/")
        if found and known[endpoint]:
            return before, endpoint, rest
    return path, None, ""


def _shown(base_url: object) -> str:
    """Return a base URL as errors show it: without a password."""
    return repr(re.sub(r"^(.*//)?.*@", r"\1***@", str(base_url), flags=re.DOTALL))
