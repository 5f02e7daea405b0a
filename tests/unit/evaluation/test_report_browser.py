"""The HTML page of a report in a browser, on a phone and on a desk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker.evaluation import Report
from qwen3_reranker.evaluation.report_page import report_page

from support.reports import HOSTILE, full_report, single_report, with_text

_NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome"),
]

# The page is in a frame because Chromium's own window is at least 500 pixels wide.
HOST = """<!DOCTYPE html>
<iframe width="{width}" height="900" srcdoc="{page}"></iframe>
<pre></pre>
<script>
const reaches = (box, frame) =>
  box.left < frame.left - 1 || box.right > frame.right + 1 ||
  box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
const covers = (box, other) =>
  box.left < other.right - 2 && other.left < box.right - 2 &&
  box.top < other.bottom - 5 && other.top < box.bottom - 5;
onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  for (const details of page.querySelectorAll("details")) details.open = true;
  const charts = [...page.querySelectorAll("svg")], outside = [], covering = [];
  for (const chart of charts) {{
    const frame = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll("text")];
    const boxes = texts.map(text => text.getBoundingClientRect());
    texts.forEach((text, n) => {{
      if (reaches(boxes[n], frame)) outside.push(text.textContent);
      for (let m = 0; m < n; m++)
        if (covers(boxes[n], boxes[m])) covering.push([text.textContent, texts[m].textContent]);
    }});
  }}
  const {{clientWidth, scrollWidth}} = page.documentElement;
  document.querySelector("pre").textContent =
    JSON.stringify({{clientWidth, scrollWidth, charts: charts.length, outside, covering}});
}}
</script>
"""


def measured(report: Report, width: int, folder: Path) -> dict[str, Any]:
    """Return what a browser says about the page of a report."""
    assert BROWSER is not None
    host = folder / "host.html"
    host.write_text(HOST.format(width=width, page=escape(report_page(report))), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={folder / 'browser'}", "--window-size=1400,1000", host.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<pre>(.+?)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[-1000:] + done.stderr[-1000:]
    result: dict[str, Any] = json.loads(unescape(found[1]))
    return result


@pytest.mark.parametrize("width", [390, 800, 1280])
@pytest.mark.parametrize("case", ["full", "single", "hostile"])
def test_nothing_is_wider_than_the_page_and_no_text_is_cut_or_covered(
    tmp_path: Path, width: int, case: str
) -> None:
    report = single_report() if case == "single" else full_report()
    if case == "hostile":
        report = with_text(report, HOSTILE)
    found = measured(report, width, tmp_path)
    assert found["charts"] == 8
    assert found["scrollWidth"] <= found["clientWidth"] <= width
    assert found["outside"] == found["covering"] == []
