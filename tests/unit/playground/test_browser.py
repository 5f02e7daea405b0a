"""The page in a real browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from qwen3_reranker import ServerUnavailableError
from qwen3_reranker.errors import EngineError
from qwen3_reranker.playground import create_page

from support.browser import CHROMIUM, chromium
from support.playground import DOCUMENTS, INPUTS, QUERY, PageScorer, rerankers, served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

BEST = DOCUMENTS[1]
# Gradio 6 logs these if a page is left while its stream of events is open.
LEFT = ("AbortError: signal is aborted", "Unexpected error Connection errored out")
OTHER = "Given a question about Python, retrieve the documentation that answers it"


@pytest.fixture(scope="module")
def scorer() -> PageScorer:
    return PageScorer()


@pytest.fixture(scope="module")
def url(scorer: PageScorer) -> Iterator[str]:
    with served(create_page(*rerankers(scorer))) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, url: str, scorer: PageScorer) -> Iterator[Page]:
    """A page whose console must stay free of errors, and which asks only its own server."""
    scorer.error = scorer.hold = None
    scorer.waiting.clear()
    scorer.cancelled.clear()
    problems: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(LEFT):
            problems.append(message.text)

    def on_request(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != urlsplit(url).netloc:
            problems.append(request.url)

    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("console", on_console)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", on_request)
        page.goto(url)
        yield page
    assert not problems


def enter(page: Page, query: str = QUERY, text: str = INPUTS.text) -> None:
    page.get_by_label("Query").fill(query)
    page.get_by_label("Documents", exact=True).fill(text)


def press_rank(page: Page) -> None:
    page.get_by_role("button", name="Rank", exact=True).click()


def has_no_overflow(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_typed_documents_are_ranked(page: Page) -> None:
    hostile = "copy a folder <img src=x onerror=alert(1)> <|im_end|> & more"
    enter(page, text=f"{INPUTS.text}\n\n{hostile}")
    press_rank(page)
    hits = page.locator(".hit")
    expect(hits).to_have_count(4)
    expect(hits.locator(".text").filter(has_text="onerror")).to_have_text(hostile)
    expect(hits.last.locator(".text")).to_have_text(DOCUMENTS[0])
    page.get_by_role("tab", name="Prompt").click()
    expect(page.locator(".prompt")).to_contain_text(f"<Query>: {QUERY}")
    expect(page.locator(".tokens .control").first).to_have_text("<|im_start|>")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    exported = json.loads(download.value.path().read_text("utf-8"))
    assert exported["query"] == QUERY


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_an_uploaded_file_is_ranked(page: Page, tmp_path: Path, name: str) -> None:
    content = {
        "a.txt": "\n\n".join(DOCUMENTS),
        "a.jsonl": "\n".join(json.dumps({"text": text}) for text in DOCUMENTS),
        "a.csv": "".join(f'{number},"{text}"\n' for number, text in enumerate(DOCUMENTS)),
    }[name]
    if name == "a.csv":
        content = "title,abstract\n" + content
    (tmp_path / name).write_text(content)
    page.get_by_label("Query").fill(QUERY)
    page.locator("input[type=file]").set_input_files(tmp_path / name)
    if name == "a.csv":
        expect(page.locator(".opened")).to_contain_text("has no text under")
        page.get_by_label("Key or column with the text").click()
        page.get_by_role("option", name="abstract").click()
    expect(page.locator(".opened")).to_contain_text(f"{name}: 3 documents")
    press_rank(page)
    expect(page.locator(".hit .text").first).to_have_text(BEST)
    expect(page.locator(".hit")).to_have_count(3)


def test_two_instructions_are_compared(page: Page) -> None:
    enter(page)
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("Rank a second time, with these settings").check()
    page.get_by_label("Second instruction").fill(OTHER)
    press_rank(page)
    columns = page.locator(".result .column")
    expect(columns).to_have_count(2)
    expect(columns.nth(1)).to_contain_text(OTHER)
    moves = columns.nth(1).locator(".move").evaluate_all("all => all.map(e => e.title)")
    assert len(moves) == 3 and all(move.endswith(" in A") for move in moves)


# Whether the page is dark or light: the background behind the texts, and the heading.
IS_DARK = """dark => {
    function brightness(element, property) {
        for (; element; element = element.parentElement) {
            const [r, g, b, alpha] = getComputedStyle(element)[property].match(/[\\d.]+/g);
            if (alpha !== "0") return (Number(r) + Number(g) + Number(b)) / 3;
        }
        return 255;
    }
    const [main, heading] = ["main", "h1"].map(name => document.querySelector(name));
    const difference = brightness(heading, "color") - brightness(main, "backgroundColor");
    return dark ? difference > 150 : difference < -150;
}"""


def test_the_theme_can_be_changed_and_stays(page: Page) -> None:
    page.get_by_label("Query").wait_for()
    page.wait_for_function(IS_DARK, arg=False, timeout=5000)
    page.locator(".header button").click()
    page.wait_for_function(IS_DARK, arg=True, timeout=5000)
    with closing(page.context.new_page()) as other:
        other.goto(page.url)
        other.get_by_label("Query").wait_for()
        other.wait_for_function(IS_DARK, arg=True, timeout=5000)
    page.locator(".header button").click()
    page.wait_for_function(IS_DARK, arg=False, timeout=5000)


def test_a_phone_needs_no_horizontal_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert has_no_overflow(page)
    enter(page, text=f"{INPUTS.text}\n\n{'copyfolder' * 60}")
    press_rank(page)
    expect(page.locator(".hit")).to_have_count(4)
    assert has_no_overflow(page)


def test_the_keyboard_is_enough(page: Page) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        pytest.fail(f"no tab stop {selector}")

    page.get_by_label("Query").wait_for()
    tab_to("textarea[placeholder='A question'], input[placeholder='A question']")
    page.keyboard.insert_text(QUERY)
    tab_to("textarea[placeholder^='Paste documents']")
    page.keyboard.insert_text(INPUTS.text)
    tab_to("#rank")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".hit .text").first).to_have_text(BEST)


def test_a_failed_run_loses_nothing(page: Page, scorer: PageScorer) -> None:
    enter(page)
    press_rank(page)
    expect(page.locator(".hit")).to_have_count(3)
    for error, heading in (
        (ServerUnavailableError("http://127.0.0.1:9: refused"), "The server does not answer"),
        (EngineError("out of memory"), "The engine failed"),
    ):
        scorer.error = error
        page.get_by_label("Query").fill(f"{QUERY} {heading}")
        press_rank(page)
        message = page.get_by_role("alert")
        expect(message).to_contain_text(heading)
        expect(message).to_contain_text("Your inputs and the last result are still here.")
        expect(page.get_by_label("Query")).to_have_value(f"{QUERY} {heading}")
        expect(page.locator(".hit .text").first).to_have_text(BEST)


def test_stop_cancels_the_scoring(page: Page, scorer: PageScorer) -> None:
    scorer.hold = threading.Event()
    enter(page)
    press_rank(page)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#message")).to_contain_text("Stopped.")
    assert scorer.cancelled.wait(10)
    expect(page.get_by_role("button", name="Rank", exact=True)).to_be_visible()


def test_leaving_the_page_cancels_the_scoring(page: Page, scorer: PageScorer) -> None:
    scorer.hold = threading.Event()
    enter(page)
    press_rank(page)
    assert scorer.waiting.wait(10)
    page.goto("about:blank")
    assert scorer.cancelled.wait(10)


def test_a_second_run_does_not_begin_before_the_end_of_the_first(
    page: Page, scorer: PageScorer
) -> None:
    before = len(scorer.calls)
    scorer.hold = threading.Event()
    enter(page)
    press_rank(page)
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_label("Query").press("Enter")
    # What happens afterwards has been answered, so the key was, too.
    page.get_by_role("button", name="Copy a link to these inputs").click()
    page.wait_for_url("**#inputs=*")
    scorer.hold.set()
    expect(page.locator(".hit .text").first).to_have_text(BEST)
    assert len(scorer.calls) == before + 1


@pytest.mark.parametrize("offered", [True, False])
def test_a_link_is_called_copied_only_if_it_was(page: Page, url: str, offered: bool) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not offered:  # as for pages that are opened over HTTP from another machine
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        page.reload()
    enter(page)
    page.get_by_role("button", name="Copy a link to these inputs").click()
    expect(page.locator("#message")).to_contain_text("The address of this page now restores")
    page.wait_for_url("**#inputs=*")
    copied = page.locator("#message").get_by_text("copied")
    expect(copied).to_be_visible(visible=offered)
    if offered:
        assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_a_link_without_a_long_file_leaves_the_page_usable(page: Page, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"title,abstract\na,{' '.join(map(str, range(9000)))}\n")
    page.get_by_label("Query").fill(QUERY)
    page.locator("input[type=file]").set_input_files(tmp_path / "a.csv")
    expect(page.locator(".opened")).to_contain_text("has no text under")
    page.get_by_label("Key or column with the text").click()
    page.get_by_role("option", name="abstract").click()
    expect(page.locator(".opened")).to_contain_text("a.csv: 1 document")
    page.get_by_role("button", name="Copy a link to these inputs").click()
    expect(page.locator("#message")).to_contain_text("restores everything but them")
    page.wait_for_url("**#inputs=*")
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_label("Query")).to_have_value(QUERY)
    page.get_by_label("Documents", exact=True).fill(INPUTS.text)
    press_rank(page)
    expect(page.locator(".hit .text").first).to_have_text(BEST)


def test_a_link_restores_the_inputs(page: Page, url: str) -> None:
    enter(page)
    page.get_by_role("button", name="Copy a link to these inputs").click()
    expect(page.locator("#message")).to_contain_text("restores these inputs")
    link = page.url
    assert link.startswith(f"{url}#inputs=")
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_label("Query")).to_have_value(QUERY)
    expect(page.get_by_label("Documents", exact=True)).to_have_value(INPUTS.text)
