"""Base URLs: every form that users give, and the URLs that follow from it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qwen3_reranker import Reranker
from qwen3_reranker.dialects import Dialect, dialects, find
from qwen3_reranker.errors import InputError
from qwen3_reranker.remote.base_url import Address

DIALECTS = dialects()
PATHS = sorted({path for dialect in DIALECTS for path in dialect.paths})


def posts_to(base_url: str, name: str) -> str:
    """Return the URL that a dialect is asked at."""
    address, dialect = Address.parse(base_url), find(name)
    path = address.serves(dialect)
    assert path is not None, f"{base_url} does not serve {name}"
    return address.at(path)


@pytest.mark.parametrize(
    ("base_url", "name", "url"),
    [
        ("http://localhost:8000", "vllm-classify", "http://localhost:8000/classify"),
        ("http://localhost:8000/", "vllm-classify", "http://localhost:8000/classify"),
        ("http://localhost:8000/v1", "vllm-classify", "http://localhost:8000/classify"),
        ("http://localhost:8000/v1/", "vllm-rerank", "http://localhost:8000/v1/rerank"),
        ("http://localhost:8000/v1/rerank", "vllm-rerank", "http://localhost:8000/v1/rerank"),
        ("http://localhost:8000/rerank/", "tei", "http://localhost:8000/rerank"),
        ("  http://localhost:8000\n", "tei", "http://localhost:8000/rerank"),
        ("http://gateway/team/a", "rerank", "http://gateway/team/a/v1/rerank"),
        ("http://gateway/team/a/v1", "rerank", "http://gateway/team/a/v1/rerank"),
        ("http://gateway/team/a/v1", "tei", "http://gateway/team/a/rerank"),
        ("https://openrouter.ai/api/v1", "rerank", "https://openrouter.ai/api/v1/rerank"),
        ("https://x.ai/paas/v4/rerank", "rerank", "https://x.ai/paas/v4/rerank"),
        ("http://h/v2", "cohere-v2", "http://h/v2/rerank"),
        ("http://h/v1", "cohere-v2", "http://h/v2/rerank"),
        # Names of hosts and prefixes that look like paths.
        ("http://rerank", "tei", "http://rerank/rerank"),
        ("http://v1", "tei", "http://v1/rerank"),
        ("http://score/v1", "vllm-score", "http://score/v1/score"),
        ("http://h/rerank/v1", "rerank", "http://h/rerank/v1/rerank"),
        ("http://h/classify/eu", "tei", "http://h/classify/eu/rerank"),
        ("http://h/vllm", "tei", "http://h/vllm/rerank"),
        ("http://h/a%2Fb%20c", "tei", "http://h/a%2Fb%20c/rerank"),
        ("http://[::1]:8000/v1", "tei", "http://[::1]:8000/rerank"),
        ("http://[2001:db8::1]", "rerank", "http://[2001:db8::1]/v1/rerank"),
        ("HTTPS://Example.COM:443/v1", "rerank", "https://example.com/v1/rerank"),
        # Hosted services, as they write it themselves.
        ("https://api.siliconflow.cn/v1", "siliconflow", "https://api.siliconflow.cn/v1/rerank"),
        (
            "https://dashscope.aliyuncs.com/compatible-api/v1",
            "dashscope",
            "https://dashscope.aliyuncs.com/compatible-api/v1/reranks",
        ),
        (
            "https://dashscope.aliyuncs.com/compatible-api/v1/reranks",
            "dashscope",
            "https://dashscope.aliyuncs.com/compatible-api/v1/reranks",
        ),
        (
            "https://dashscope-intl.aliyuncs.com/api/v1",
            "dashscope-native",
            "https://dashscope-intl.aliyuncs.com/api/v1/services/rerank/text-rerank/text-rerank",
        ),
        (
            "https://dashscope.aliyuncs.com",
            "dashscope-native",
            "https://dashscope.aliyuncs.com/api/v1/services/rerank/text-rerank/text-rerank",
        ),
    ],
)
def test_a_base_url_leads_to_the_endpoint(base_url: str, name: str, url: str) -> None:
    assert posts_to(base_url, name) == url


def test_deepinfras_path_names_the_model() -> None:
    address = Address.parse("https://api.deepinfra.com/v1/inference/Qwen/Qwen3-Reranker-4B")
    assert (address.endpoint, address.rest) == ("/v1/inference", "Qwen/Qwen3-Reranker-4B")
    assert address.at("/v1/inference/m") == "https://api.deepinfra.com/v1/inference/m"
    assert [d.name for d in DIALECTS if address.serves(d)] == ["deepinfra"]
    plain = Address.parse("https://api.deepinfra.com/v1/inference")
    assert (plain.endpoint, plain.rest) == ("/v1/inference", "")


def test_an_endpoint_says_which_dialects_may_be_served() -> None:
    native = "http://h/api/v1/services/rerank/text-rerank/text-rerank"
    for base_url, names in {
        "http://h/classify": {"vllm-classify"},
        "http://h/generative_scoring": {"vllm-generative"},
        "http://h/v1/score": {"vllm-score", "sglang-score", "gateway"},
        "http://h/score": {"vllm-score", "gateway"},
        "http://h/v1/reranks": {"rerank"},
        "http://h/compatible-api/v1/reranks": {"dashscope"},
        native: {"dashscope-native"},
        "http://h/v1/completions": {"completions"},
        "http://h": {dialect.name for dialect in DIALECTS},
    }.items():
        address = Address.parse(base_url)
        assert {d.name for d in DIALECTS if address.serves(d)} == names, base_url


def test_other_paths_of_the_server_are_beside_the_endpoint() -> None:
    for base_url in ("http://h/a", "http://h/a/v1", "http://h/a/v1/rerank", "http://h/a/classify"):
        address = Address.parse(base_url)
        assert address.at("/tokenize") == "http://h/a/tokenize"
        assert address.at("/v1/models") == "http://h/a/v1/models"
        assert address.at("/v1/cluster/version") == "http://h/a/v1/cluster/version"
        assert address.url == base_url


@pytest.mark.parametrize("base_url", ["http://me:s%40cret@host:8000/v1", "https://secret@host"])
def test_a_password_is_refused_and_not_shown(base_url: str) -> None:
    with pytest.raises(InputError, match="contains a user or a password: give api_key=") as caught:
        Address.parse(base_url)
    assert "cret" not in str(caught.value) and "@host" in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "problem"),
    [
        ("localhost:8000", "give a URL with its scheme"),
        ("//localhost", "give a URL with its scheme"),
        ("/v1/rerank", "give a URL with its scheme"),
        ("", "give a URL with its scheme"),
        ("ftp://host/v1", "give a URL with its scheme"),
        ("unix:///run/vllm.sock", "give a URL with its scheme"),
        ("http://", "give a URL with its scheme"),
        ("http://host:port", "is not a URL"),
        ("http://host/\ud800", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://host/v1?api-version=1", "has a query or a fragment"),
        ("http://host/v1#top", "has a query or a fragment"),
    ],
)
def test_what_is_no_base_url_is_refused_with_its_value(base_url: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        Address.parse(base_url)
    assert repr(base_url) in str(error.value)


@pytest.mark.parametrize(
    "base_url",
    ["http://me:secret@host?x=1", "ftp://me:secret@host", "http://me:sec/secret@host/"],
)
def test_a_password_is_in_no_error(base_url: str) -> None:
    with pytest.raises(InputError) as error:
        Address.parse(base_url)
    assert "secret" not in str(error.value) and "***@host" in str(error.value)


def test_a_service_has_its_own_hosts_alone() -> None:
    for host, names in {
        "api.jina.ai": {"jina"},
        "jina.ai": {"jina"},
        "notjina.ai": set(),
        "jina.ai.evil.com": set(),
        "api.cohere.com": {"cohere-v2", "cohere-v1"},
        "dashscope.aliyuncs.com": {"dashscope", "dashscope-native"},
        "dashscope-intl.aliyuncs.com": {"dashscope", "dashscope-native"},
        "llm-x1.ap-southeast-1.maas.aliyuncs.com": {"dashscope", "dashscope-native"},
        "12.cn-hangzhou.pai-eas.aliyuncs.com": set(),
        "bucket.oss-cn-beijing.aliyuncs.com": set(),
        "api.siliconflow.com": {"siliconflow"},
        "api.deepinfra.com": {"deepinfra"},
        "localhost": set(),
    }.items():
        address = Address.parse(f"https://{host}/v1")
        assert {d.name for d in DIALECTS if address.hosts(d)} == names, host


PRIVATE = """
localhost LOCALHOST localhost. vllm.localhost 127.0.0.1 127.255.0.3 [::1] 0.0.0.0 [::]
10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.9 [fd00::1] [::ffff:10.0.0.1] [::ffff:127.0.0.1]
vllm reranker-0 qwen3_reranker db1 h printer.local vllm.ml.svc.cluster.local vllm.ml.svc
ip-10-0-0-1.ec2.internal host.docker.internal box.home.arpa
"""
PUBLIC = """
8.8.8.8 172.15.0.1 172.32.0.1 169.254.169.254 100.64.0.1 [2001:db8::1] [::ffff:8.8.8.8] [fe80::1]
134744072 0x08080808 0x8.8.8.8 8.8 ai to example.com localhost.example.com
127.0.0.1.nip.io 10.0.0.1.example.org vllm.dev notlocalhost.com mylocal.com xlocal.co internal.com
"""


@pytest.mark.parametrize("host", PRIVATE.split())
def test_hosts_of_this_machine_and_of_private_networks(host: str) -> None:
    for base_url in (f"http://{host}", f"https://{host}:8000/v1"):
        assert Address.parse(base_url).private


@pytest.mark.parametrize("host", PUBLIC.split())
def test_hosts_that_may_be_public(host: str) -> None:
    for base_url in (f"http://{host}", f"https://{host}:8000/v1"):
        assert not Address.parse(base_url).private


@given(st.ip_addresses())
def test_no_global_address_is_private(ip: IPv4Address | IPv6Address) -> None:
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    address = Address.parse(f"http://{host}")
    assert not (address.private and ip.is_global)


# Path pieces that no endpoint begins or ends with.
pieces = st.text("abcdxyz-_.~0123456789", min_size=1, max_size=6).filter(
    lambda piece: piece not in (".", "..")
)
hosts = st.sampled_from(["h", "localhost:8000", "[::1]:30000", "rerank", "score:1", "v1", "a.b.c"])


@given(
    host=hosts,
    prefix=st.lists(pieces, max_size=3),
    dialect=st.sampled_from(DIALECTS),
    data=st.data(),
)
def test_any_root_and_any_full_path_lead_to_the_same_endpoint(
    host: str, prefix: list[str], dialect: Dialect, data: st.DataObject
) -> None:
    root = "/".join([f"http://{host}", *prefix])
    path = data.draw(st.sampled_from(dialect.paths))
    full = Address.parse(root + path)
    assert full.serves(dialect) is not None
    assert full.at(full.serves(dialect) or "") == root + path
    for base_url in (root, root + "/", root + "/v1", root + "/v1/"):
        assume(not prefix or not prefix[-1].startswith("v"))
        address = Address.parse(base_url)
        assert address.serves(dialect) == dialect.paths[0]
        assert address.at(path) == root + path


@given(st.text(st.characters()))
def test_any_text_is_an_address_or_an_input_error(text: str) -> None:
    for base_url in (text, "http://" + text, "http://h/" + text):
        try:
            address = Address.parse(base_url)
        except InputError:
            continue
        assert address.at("/classify").startswith(("http://", "https://"))


@pytest.mark.parametrize("base_url", [[["http://h"]], [None], [5], b"http://h", ["http://h", {}]])
def test_a_list_of_something_else_is_refused(base_url: Any) -> None:
    with pytest.raises(InputError, match=r"base_url= has .*, which is not a URL"):
        Reranker(base_url=base_url)
