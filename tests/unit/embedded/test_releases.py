"""The versions of vLLM that the embedded engine works with: one table, which the extras repeat."""

from __future__ import annotations

import tomllib

import pytest

from qwen3_reranker.embedded.releases import (
    CPU_PACKAGE,
    NEWEST,
    PACKAGE,
    SUPPORTED,
    TESTED,
    check_version,
)
from qwen3_reranker.errors import UnsupportedVersionError

from support.docs_pages import ROOT


@pytest.mark.parametrize("version", ["0.9.2", "0.26.0", "0.34.0", "1.0.0", "unknown"])
def test_other_vllm_versions_are_refused_by_name_and_version(version: str) -> None:
    with pytest.raises(UnsupportedVersionError, match=f"vllm {version} is installed"):
        check_version(version)


def test_supported_vllm_versions_pass() -> None:
    for minor in range(SUPPORTED[0][1], SUPPORTED[1][1] + 1):
        check_version(f"0.{minor}.0")
        check_version(f"0.{minor}.1rc1+cpu")


def test_the_extras_install_supported_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = f"{SUPPORTED[0][0]}.{SUPPORTED[0][1]}.0"
    ends = {
        package: f"{major}.{int(minor) + 1}"
        for package, version in ((PACKAGE, NEWEST), (CPU_PACKAGE, TESTED))
        for major, minor, _ in [version.split(".")]
    }
    for package, end in ends.items():
        extra = project["optional-dependencies"][package]
        assert extra == [f"{package}>={oldest},<{end}"]
    for version in (TESTED, NEWEST):
        check_version(version)
