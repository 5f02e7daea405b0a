"""The HTML page of a report: complete, self-contained, escaped and reproducible."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError, MissingDependencyError
from qwen3_reranker.cli.evaluate import backends
from qwen3_reranker.evaluation import Report, System, evaluate
from qwen3_reranker.evaluation.plot_style import COLORS
from qwen3_reranker.evaluation.plots import PLOTS
from qwen3_reranker.evaluation.report_page import report_page
from qwen3_reranker.evaluation.report_page.settings import command
from qwen3_reranker.markup import Html, join, tag
from qwen3_reranker.terminal import escape_control

from support.evaluation import reranker, small, synthetic
from support.html_pages import Element, Page
from support.reports import HOSTILE, empty_report, full_report, single_report, with_text

SECTIONS = [
    "What to do",
    "Systems side by side",
    "Queries helped and hurt",
    "Curves",
    "Settings, and how to repeat this",
]
CURVES = [
    "How many candidates to rerank",
    "How many documents for the LLM",
    "Precision and recall by threshold",
    "Scores of relevant and irrelevant documents",
    "What a score is worth",
    "What any reranker could gain",
    "Where nothing is relevant",
]
STYLE = files("qwen3_reranker.evaluation.report_page").joinpath("style.css").read_text("utf-8")


@pytest.fixture(scope="module")
def report() -> Report:
    return full_report()


@pytest.fixture(scope="module")
def page(report: Report) -> Element:
    return Page.parse(report_page(report)).root


def texts(page: Element, name: str) -> list[str]:
    return [element.text for element in page.all(name)]


@pytest.mark.parametrize("make", [full_report, single_report, empty_report])
def test_every_section_is_there(make: Callable[[], Report]) -> None:
    page = Page.parse(report_page(made := make())).root
    assert texts(page, "h1") == texts(page, "title")[:1]
    assert made.dataset.name in texts(page, "h1")[0]
    assert texts(page, "h2") == SECTIONS
    assert [text for text in texts(page, "h3") if text in CURVES] == CURVES
    main = page.all("main")[0].text
    for advice in made.recommendation:
        assert advice.text in main
    for system in made.systems:
        assert system.name in main
        for mean in system.metrics.values():
            assert f"{mean:.3f}" in main


def test_every_plot_is_there_with_a_title_and_a_description(page: Element) -> None:
    pictures = page.all("svg")
    assert len(pictures) == len(PLOTS)
    for picture in pictures:
        title, description = picture.all("title")[0], picture.all("desc")[0]
        named = f"{title.attributes['id']} {description.attributes['id']}"
        assert picture.attributes["aria-labelledby"] == named
        assert picture.attributes["role"] == "img"
        assert title.text and description.text.endswith(".")


def test_without_a_candidate_there_is_a_sentence_in_place_of_a_curve() -> None:
    page = Page.parse(report_page(empty_report())).root
    assert len(page.all("svg")) == 1
    assert page.all("main")[0].text.count("Nothing to show: there is no candidate.") == len(CURVES)


def test_the_queries_that_lost_are_shown() -> None:
    page = Page.parse(report_page(single_report())).root
    [lost] = page.all("ol")
    [change] = lost.all("li")
    assert "copy a folder" in change.text and "nDCG@10 1.000 → 0.631" in change.text
    assert [element.text for element in change.all("dd")] == [
        "a (grade 1) copy a folder",
        "b (unjudged, score 1.000) wait",
    ]


@pytest.mark.parametrize(("instructions", "shown"), [
    ([None, "invert"], "The default one"),
    (["invert", "read"], "Your own"),
    ([None, "read"], "Unclear"),
])  # fmt: skip
def test_the_card_of_the_instruction_says_what_its_text_says(
    instructions: list[str | None], shown: str
) -> None:
    one = reranker()
    systems = [System(reranker=one, instruction=instruction) for instruction in instructions]
    page = Page.parse(report_page(evaluate(synthetic(60, 40), systems))).root
    [card] = [e for e in page.all("li") if e.attributes.get("class") == "card instruction"]
    assert card.all("p")[0].text == shown


def test_the_numbers_have_headers(page: Element) -> None:
    for table in page.all("table"):
        columns = len(table.all("thead")[0].all("th"))
        for row in table.all("tbody")[0].all("tr"):
            header, *cells = row.children
            assert isinstance(header, Element) and header.attributes["scope"] == "row"
            assert len(cells) == columns - 1
        assert table.all("caption")[0].text


def test_the_page_asks_for_no_other_file_and_runs_nothing(page: Element) -> None:
    ids = [e.attributes["id"] for e in page.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    assert not page.all("script") + page.all("link") + page.all("img") + page.all("iframe")
    for element in page.all():
        for name, value in element.attributes.items():
            assert not name.startswith("on") and name != "src"
            for reference in re.findall(r"url\(([^)]*)\)", value) + [value] * (name == "href"):
                assert reference.removeprefix("#") in ids and reference.startswith("#")
    assert "url(" not in STYLE and "@import" not in STYLE


def test_texts_of_data_and_settings_are_only_texts(report: Report, page: Element) -> None:
    hostile = Page.parse(report_page(with_text(report, HOSTILE))).root
    # Instructions are listed only where they differ, and a plot has a line per different system.
    known = {(element.name, *sorted(element.attributes)) for element in page.all()}
    found = {(element.name, *sorted(element.attributes)) for element in hostile.all()}
    assert found <= known
    shown = escape_control(HOSTILE)
    assert hostile.all("title")[0].text == f"Does reranking help on {shown}?"
    assert {element.text for element in hostile.all("summary")} == {"Numbers", shown}
    labels = [text.text for picture in hostile.all("svg") for text in picture.all("text")]
    assert any(text.startswith("</style>") and "…" in text for text in labels)


@given(st.text(), st.text())
def test_text_is_escaped(content: str, value: str) -> None:
    page = Page.parse(tag("p", content, data_x=value)).root
    [element] = page.all()
    # HTML itself has other rules for some characters, which are not those that it must escape.
    if "\r" not in content + value:
        assert element.text == escape_control(content)
        assert element.attributes == {"data-x": escape_control(value)}


def test_html_is_not_escaped_twice() -> None:
    assert tag("b", join("a<b", Html("<i>&amp;</i>"))) == "<b>a&lt;b<i>&amp;</i></b>"


@pytest.mark.slow
def test_equal_reports_have_equal_pages(report: Report, tmp_path: Path) -> None:
    """In another process too, whose sets have another order."""
    report.save(tmp_path / "report.json")
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page == report_page(Report.load(tmp_path / "report.json"))
    program = (
        "import hashlib, sys; from qwen3_reranker.evaluation import Report; "
        "from qwen3_reranker.evaluation.report_page import report_page; "
        "print(hashlib.sha256(report_page(Report.load(sys.argv[1])).encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "report.json")],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


def variables(scheme: str) -> dict[str, str]:
    """Return the colors of a color scheme."""
    light, dark = (
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    )
    return light if scheme == "light" else light | dark


def luminance(color: str) -> float:
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("background", ["page", "card"])
@pytest.mark.parametrize("color", ["ink", "muted", "blue", "orange", "green", "purple"])
def test_texts_have_contrast(scheme: str, background: str, color: str) -> None:
    """At least 4.5, which WCAG asks for."""
    colors = variables(scheme)
    one, other = sorted(luminance(colors[name]) for name in (color, background))
    assert (other + 0.05) / (one + 0.05) >= 4.5


def test_every_color_is_a_variable_of_both_schemes(page: Element) -> None:
    light, dark = variables("light"), variables("dark")
    assert dict(COLORS).items() <= light.items()
    assert all(light[name] != dark[name] for name in light)
    pictures = [element for picture in page.all("svg") for element in picture.all()]
    styles = " ".join(element.attributes.get("style", "") for element in pictures)
    assert not re.search(r"#[0-9a-f]{6}", styles)
    assert set(re.findall(r"var\(--([a-z]+)\)", styles + STYLE)) <= light.keys()


def test_the_command_has_the_settings() -> None:
    one = reranker()
    systems = [
        System(reranker=one, instruction=text, depth=depth)
        for text in (None, "it's")
        for depth in (1, 2)
    ]
    words = shlex.split(command(evaluate(small(), systems, metrics=["MRR@5"])).replace("\\\n", ""))
    assert " ".join(words) == (
        "qwen3-reranker evaluate DATA --model words --instruction default --instruction it's "
        "--depth 1,2 --metric MRR@5 --min-grade 1 --report report.html"
    )


PAIRS: list[tuple[list[tuple[str | None, list[str]]], str]] = [
    ([("a", []), ("b", [])], "--model a --model b"),
    ([("a", ["http://h"]), ("b", ["http://h"])], "--model a --model b --base-url http://h"),
    ([(None, ["http://h"]), (None, ["http://g"])], "--base-url http://h --base-url http://g"),
    ([("a", ["http://h", "http://g"])], "--model a --base-url http://h,http://g"),
    ([("a", []), ("a", ["http://h"])], "--model a --model a@http://h"),
    ([("a", []), (None, ["http://h"])], "--model a --model @http://h"),
    ([("a", ["http://h"]), ("b", ["http://g"])], "--model a@http://h --model b@http://g"),
    ([("a", ["http://h"]), (None, ["http://h"])], "--model a@http://h --model @http://h"),
]  # fmt: skip


@pytest.mark.parametrize(("pairs", "expected"), PAIRS)
def test_the_command_has_exactly_the_models_and_servers(
    report: Report, pairs: list[tuple[str | None, list[str]]], expected: str
) -> None:
    retriever, one, *_ = report.systems
    systems = [replace(one, model=model, base_url=urls) for model, urls in pairs]
    words = shlex.split(command(replace(report, systems=[retriever, *systems])).replace("\\\n", ""))
    assert f"DATA {expected} --depth" in " ".join(words)
    # The command line stands for the same models and servers.
    options = expected.split()
    values = {
        option: [
            value for name, value in zip(options[::2], options[1::2], strict=True) if name == option
        ]
        for option in ("--model", "--base-url")
    }
    found = backends(values["--model"], values["--base-url"])
    assert sorted(map(str, found)) == sorted(str((model, urls or None)) for model, urls in pairs)


def test_the_command_has_what_stands_for_no_limit(report: Report) -> None:
    retriever, one, *_ = report.systems
    systems = [replace(one, depth=depth, max_length=n) for depth, n in ((None, 512), (5, None))]
    text = command(replace(report, systems=[retriever, *systems]))
    assert "--depth all,5 " in text and "--max-length 512,default " in text


def test_a_report_is_saved_only_where_its_form_is_known(report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"give a name that ends in .json or .html"):
        report.save(tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for use in (lambda: report.save(tmp_path / "report.html"), lambda: report.plot("depth")):
        with pytest.raises(MissingDependencyError, match=r"qwen3-reranker\[evaluation\]"):
            use()
    report.save(tmp_path / "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
