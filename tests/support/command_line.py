"""The command in the process of a test."""

from __future__ import annotations

from collections.abc import Callable

Call = Callable[..., tuple[int, str, str]]
"""Runs the command with the arguments given; returns its exit code, standard output and error."""
