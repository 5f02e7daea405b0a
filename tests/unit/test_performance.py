"""What is said of speed is what the committed results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import report

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_results() -> None:
    page = report.PAGE.read_text("utf-8")
    assert report.written(page) == page
    found = re.findall(r"<!-- ([a-z ]+) -->", page)
    assert sorted({*found} - {"end"}) == sorted(report.sections())


def test_a_number_that_nobody_measured_is_seen() -> None:
    page = report.PAGE.read_text("utf-8")
    assert report.written(page.replace("<!-- embedded -->\n", "<!-- embedded -->\nx")) == page


def test_the_readmes_lines_have_the_results() -> None:
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for line in report.headlines():
        assert line in readme


@pytest.mark.parametrize("picture", re.findall(r"\]\((.*?\.png)\)", report.PAGE.read_text("utf-8")))
def test_the_pictures_are_there(picture: str) -> None:
    assert (report.PAGE.parent / picture).read_bytes().startswith(b"\x89PNG")
