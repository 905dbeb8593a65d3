"""The report in a real browser: it shows all, asks for nothing, works by keyboard, light and dark, wide and narrow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from chromium import PROGRAM, Chromium
from report_study import make_large_study

from memindex.report import write_report
from memindex.report.colours import contrast
from memindex.sql.connection import connect
from memindex.sql.queries import run_query

pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt install chromium")]

TAB, ENTER = ("Tab", 9), ("Enter", 13)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_large_study(tmp_path_factory.mktemp("chromium"), rows=240)


@pytest.fixture(scope="module")
def page(study: Path) -> Path:
    return write_report(study)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


def rgb(text: str) -> str:
    """`rgb(1, 2, 3)` as #rrggbb."""
    return "#" + "".join(f"{int(part):02x}" for part in text[4:-1].split(","))


@pytest.mark.parametrize(("width", "dark"), [(1000, False), (1000, True), (390, False), (390, True)])
def test_the_page_renders_without_errors_or_requests(browser: Chromium, page: Path, width: int, dark: bool) -> None:
    browser.events.clear()
    browser.open(page, width=width, dark=dark)
    figures = browser.value("[...document.querySelectorAll('figure')].length")
    shown = browser.value(
        "[...document.querySelectorAll('figure svg')].filter(f => f.getBoundingClientRect().height > 100).length"
    )
    assert figures == shown > 8
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.told("Runtime.exceptionThrown") == []
    assert browser.told("Runtime.consoleAPICalled") == []
    assert browser.told("Log.entryAdded") == []
    assert [request["documentURL"] for request in browser.told("Network.requestWillBeSent")] == [page.as_uri()]


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_its_paper(browser: Chromium, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    paper = rgb(browser.value("getComputedStyle(document.body).backgroundColor"))
    colours = browser.value(
        """[...new Set([...document.querySelectorAll('body :not(title, desc)')]
            .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
            .map(e => e.closest('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color))]"""
    )
    assert len(colours) > 2
    assert min(contrast(rgb(colour), paper) for colour in colours) > 4.5
    assert (contrast(paper, "#000000") < 2) == dark


def test_all_text_of_figures_is_inside_the_page(browser: Chromium, page: Path) -> None:
    for width in (1000, 390):
        browser.open(page, width=width)
        outside = browser.value(
            """[...document.querySelectorAll('figure svg text')].map(t => [t.textContent, t.getBoundingClientRect()])
               .filter(([t, r]) => r.width && (r.left < 0 || r.right > innerWidth)).map(([t]) => t)"""
        )
        assert outside == []


def test_details_open_by_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page)
    for _ in range(60):
        browser.press(*TAB)
        if browser.value("document.activeElement.tagName") == "SUMMARY":
            break
    assert browser.value("document.activeElement.tagName") == "SUMMARY"
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opened = "document.activeElement.parentElement.open"
    assert browser.value(opened) is False
    browser.press(*ENTER, text="\r")
    assert browser.value(opened) is True
    browser.press(*TAB)
    assert browser.value("document.activeElement.getAttribute('role')") == "region"


def test_numbers_are_saved_without_a_network(browser: Chromium, page: Path, study: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.value("document.querySelector('a[download=\"rate_by_size.csv\"]').click()")
    file, until = tmp_path / "rate_by_size.csv", time.monotonic() + 20
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    con = connect(study)
    con.execute("SET threads = 1")
    wanted = run_query(con, "rate_by_size").to_pandas()
    pd.testing.assert_frame_equal(pd.read_csv(file), wanted, check_exact=True, check_dtype=False)


def test_a_screen_reader_hears_what_figures_show(browser: Chromium, page: Path) -> None:
    browser.open(page)
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in nodes if node.get("role", {}).get("value") in {"img", "image"} and not node["ignored"]]
    names = {node["name"]["value"]: node.get("description", {}).get("value", "") for node in images}
    assert "Memorization rate by model size" in names
    assert names["Memorization rate by model size"].startswith("Points: Memorized sequences by")
    assert len(images) == browser.value("document.querySelectorAll('figure').length")
    headers = [node for node in nodes if node.get("role", {}).get("value") == "columnheader"]
    assert len(headers) > 3


def test_the_policy_forbids_what_a_page_should_not_do(browser: Chromium, page: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    text = page.read_text(encoding="utf-8")
    tricks = "<script>document.title = 'ran'</script><img src='http://localhost:9/x.png'>"
    bad.write_text(text.replace("</main>", f"{tricks}</main>"), encoding="utf-8")
    browser.events.clear()
    browser.open(bad)
    assert browser.value("document.title") == "A made-up study"
    blocked = [entry["entry"]["text"] for entry in browser.told("Log.entryAdded")]
    assert sum("Content Security Policy" in text for text in blocked) == 2
