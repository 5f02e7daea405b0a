"""Take the screenshots of the documentation: `make screenshots`, with the demo model."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from qwen3_reranker import Reranker
from qwen3_reranker.playground import create_page
from qwen3_reranker.playground.examples import EXAMPLES

from support.browser import chromium
from support.playground import served

ASSETS = Path(__file__).parents[2] / "docs/assets"


def main(folder: Path) -> None:
    cut = Reranker("demo", engine="transformers")
    passages = Reranker("demo", engine="transformers", long_documents="passages", passage_tokens=64)
    with cut as reranker, passages, chromium() as browser:
        reranker.warm_up()
        with served(create_page(reranker, passages)) as url:
            page = ranked(browser, url, "light", "Two instructions", width=1280)
            save(page, folder / "playground-light.webp")
            page = ranked(browser, url, "dark", "A long document", width=1280)
            save(page, folder / "playground-dark.webp")
            page.get_by_role("tab", name="Prompt").click()
            page.locator(".tokens").wait_for()
            save(page, folder / "playground-prompt-dark.webp")
            page = ranked(browser, url, "light", "Delete a folder", width=390, height=844)
            save(page, folder / "playground-narrow.webp")


def ranked(
    browser: Browser,
    url: str,
    scheme: Literal["light", "dark"],
    example: str,
    *,
    width: int,
    height: int = 960,
) -> Page:
    """Return a page that shows the ranking of an example."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(url)
    page.get_by_role("button", name=example).click()
    expect(page.get_by_label("Query")).to_have_value(EXAMPLES[example].query)
    page.get_by_role("button", name="Rank", exact=True).click()
    page.locator(".hit").first.wait_for(timeout=120_000)
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # until everything has its final size
    if width > 1000:
        page.evaluate("scrollTo(0, 0)")
    return page


def save(page: Page, path: Path) -> None:
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=82, method=6)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS)
