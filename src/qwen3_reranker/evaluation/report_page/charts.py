"""Turn plots into SVG that is part of a page: without fonts and colors of its own."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from matplotlib.figure import Figure

from qwen3_reranker.evaluation.plot_style import COLORS, styled
from qwen3_reranker.evaluation.plots import figure_size, plot
from qwen3_reranker.evaluation.results import SystemResult
from qwen3_reranker.markup import Html
from qwen3_reranker.terminal import escape_control

if TYPE_CHECKING:
    from qwen3_reranker.evaluation.report_data import ReportData

__all__ = ["chart"]

_VARIABLES = {color: f"var(--{name})" for name, color in COLORS.items()}
_COLOR = re.compile("|".join(COLORS.values()))
_FONT = re.compile(r"font-family: [^;]*; ")
_REFERENCE = re.compile(r"(?<=url\()#|^#")
_REFERRING = ("href", "clip-path", "style", "fill")


def chart(
    report: ReportData, name: str, system: SystemResult, title: str, description: str
) -> Html:
    """
    Return a plot as an SVG element, whose colors are the page's CSS variables.

    Args:
        report: The report.
        name: The name of the plot.
        system: Whose scores are drawn.
        title: The name of the plot for screen readers.
        description: What it shows, for screen readers.
    """
    with styled(**{"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # Where matplotlib's font lacks a character, the browser has another font.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=figure_size(report, name), layout="constrained")
        plot(report, name, system, figure.subplots())
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _embedded(written.getvalue(), name, title, description)


def _embedded(text: str, name: str, title: str, description: str) -> Html:
    """Return matplotlib's SVG document as an element of a page."""
    root = ET.fromstring(text)  # noqa: S314 - matplotlib wrote it
    for metadata in root.findall("{*}metadata"):
        root.remove(metadata)
    used = {
        reference
        for element in root.iter()
        for key, value in element.attrib.items()
        if key.rpartition("}")[2] in _REFERRING
        for reference in re.findall(r"(?:url\(|^)#([\w-]+)", value)
    }
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if "id" in attributes and attributes["id"] not in used:
            del attributes["id"]
        element.attrib.clear()
        for key, value in attributes.items():
            element.set(key, _attribute(key, value, name))
    view = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib |= {
        "viewBox": view,
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
    }
    for tag, content in (("desc", description), ("title", title)):
        element = ET.Element(tag, id=f"{name}-{'title' if tag == 'title' else 'description'}")
        element.text = escape_control(content)
        root.insert(0, element)
    return Html(ET.tostring(root, encoding="unicode"))


def _attribute(key: str, value: str, name: str) -> str:
    """Return an attribute with the page's colors and font, and ids that are unique in the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "style":
        value = _COLOR.sub(lambda match: _VARIABLES[match[0]], value)
        value = _FONT.sub("", value)
    if key in _REFERRING:
        value = _REFERENCE.sub(f"#{name}-", value)
    return value
