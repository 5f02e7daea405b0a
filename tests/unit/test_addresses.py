"""Who can reach a program that listens on a host, and at which URL."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.addresses import is_loopback, is_wildcard, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LocalHost"])
def test_only_this_machine_reaches_loopback(host: str) -> None:
    assert is_loopback(host) and not is_wildcard(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0:0:0:0:0:0:0:0"])
def test_all_networks_are_no_loopback(host: str) -> None:
    assert is_wildcard(host) and not is_loopback(host)


@pytest.mark.parametrize("host", ["", "example.com", "localhost.example.com", "192.0.2.1"])
def test_others_reach_any_other_host(host: str) -> None:
    assert not is_loopback(host) and not is_wildcard(host)


@given(address=st.ip_addresses(), port=st.integers(1, 65535))
def test_an_address_is_found_again_in_its_url(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    rest, _, last = url_of(str(address), port).removeprefix("http://").rpartition(":")
    assert (ipaddress.ip_address(rest.strip("[]")), int(last)) == (address, port)
    assert rest.startswith("[") == (address.version == 6)
