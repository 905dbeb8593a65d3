"""The server's page in a real browser: every view on a real index and study, by keyboard, light, dark and narrow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from chromium import PROGRAM, Chromium
from served_app import running
from served_study import make_served

from memindex.index import Index
from memindex.report.colours import contrast
from memindex.server.config import Limits, ServerConfig

pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt install chromium")]

TAB, ENTER, SPACE = ("Tab", 9), ("Enter", 13), (" ", 32)

TEXT = "The river rose in the night"
TRACED = f"Somebody said: {TEXT} and took the old bridge with it. Then nobody spoke."
HOSTILE = "<img src=x onerror=\"document.title = 'ran'\"> & '\" \\ \n😀"
SQL = "SELECT model_id, 1 AS one FROM models ORDER BY 1"

VIEWS = {
    "start": "",
    "lookup": f"#/lookup?{urlencode({'index': 'library', 'q': TEXT})}",
    "trace": f"#/trace?{urlencode({'index': 'library', 'text': TRACED, 'min': 5})}",
    "study": "#/study/reading",
    "question": "#/study/reading/question/rate_by_frequency",
    "table": "#/study/reading/question/most_memorized_documents",
    "sequences": "#/study/reading/sequences?run=small-run&order=frequency",
    "sequence": "#/study/reading/sequence/5?run=small-run",
    "sql": f"#/sql?{urlencode({'study': 'reading', 'sql': SQL})}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    make_served(folder)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    limits = Limits(max_sql_seconds=10, max_sql_memory_mb=256, max_sql_rows=1000)
    with running(ServerConfig((folder / "library",), (folder / "reading",), limits)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


def until(browser: Chromium, script: str, seconds: float = 30) -> None:
    """Wait until a script is true."""
    end = time.monotonic() + seconds
    while not browser.value(f"Boolean({script})"):
        assert time.monotonic() < end, f"{script} never became true: {text(browser)[:500]}"
        time.sleep(0.03)


def settled(browser: Chromium) -> None:
    """Wait until the view has all of its answers."""
    until(browser, "document.querySelector('main')?.dataset.ready === 'yes' && !document.querySelector('[aria-busy]')")


def show(browser: Chromium, url: str, view: str, **window: object) -> None:
    browser.open("about:blank")
    browser.events.clear()
    browser.open(f"{url}/{view}", **window)
    settled(browser)


def text(browser: Chromium) -> str:
    return browser.value("document.body.innerText")


def complaints(browser: Chromium) -> list[object]:
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    return [told for kind in kinds for told in browser.told(kind)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "dark"), [(1000, False), (1000, True), (360, False)])
def test_every_view_renders_without_errors(browser: Chromium, url: str, view: str, width: int, dark: bool) -> None:
    show(browser, url, VIEWS[view], width=width, dark=dark)
    assert complaints(browser) == []
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value("document.querySelectorAll('[role=alert]').length") == 0
    assert browser.value("[...document.images].every(image => image.complete && image.naturalWidth > 200)")
    asked = {request["request"]["url"] for request in browser.told("Network.requestWillBeSent")}
    assert all(address.startswith((url, "data:", "blob:")) for address in asked)
    words = text(browser)
    assert all(wrong not in words for wrong in ("undefined", "[object", "NaN", "null"))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_what_is_behind_it(browser: Chromium, url: str, view: str, dark: bool) -> None:
    show(browser, url, VIEWS[view], dark=dark)
    pairs = browser.value(
        """[...new Set([...document.querySelectorAll('body *')]
            .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) && e.getClientRects().length)
            .map(e => {
                let behind = e;
                const clear = () => getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)';
                while (behind && clear()) behind = behind.parentElement;
                return getComputedStyle(e).color + '|' + getComputedStyle(behind ?? document.body).backgroundColor;
            }))]"""
    )
    assert len(pairs) > 2
    for pair in pairs:
        ink, paper = (
            "#" + "".join(f"{int(part):02x}" for part in colour[4:-1].split(",")) for colour in pair.split("|")
        )
        assert contrast(ink, paper) > 4.5, pair


def test_a_lookup_shows_the_index_s_own_numbers(browser: Chromium, url: str, folder: Path) -> None:
    show(browser, url, VIEWS["lookup"])
    index = Index.open(folder / "library")
    count = int(index.count([TEXT])[0])
    assert browser.value("document.querySelector('.count').textContent") == str(count)
    rows = browser.value(
        """[...document.querySelectorAll('.bars')[0].tBodies[0].rows].map(row =>
            [row.cells[0].innerText, row.cells[2].innerText])"""
    )
    assert {name: int(number) for name, number in rows} == dict(
        zip(index.domains, index.count_by_domain([TEXT])[0].tolist(), strict=True)
    )
    marks = browser.value("[...document.querySelectorAll('.document mark')].map(mark => mark.textContent)")
    assert marks == [TEXT] * 10
    assert f"{count} occurrences" in browser.value("document.getElementById('status').textContent")


def test_marks_stand_right_behind_letters_of_two_halves(browser: Chromium, url: str) -> None:
    show(browser, url, f"#/lookup?{urlencode({'q': ' below them.'})}")
    marks = browser.value("[...document.querySelectorAll('.document mark')].map(mark => mark.textContent)")
    assert set(marks) == {" below them."}


def test_a_trace_marks_what_the_corpus_holds(browser: Chromium, url: str) -> None:
    show(browser, url, VIEWS["trace"])
    assert browser.value("document.querySelector('.traced').textContent") == TRACED
    parts = browser.value("[...document.querySelectorAll('.traced [role=button]')].map(part => part.textContent)")
    assert any(f"{TEXT} and took the old bridge with it." in part for part in parts)
    browser.value("document.querySelector('.traced [role=button]').focus()")
    browser.press(*ENTER, text="\r")
    assert browser.value("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert "occurrence" in browser.value("document.querySelector('.document').innerText")


def test_a_sequence_is_aligned_token_by_token(browser: Chromium, url: str) -> None:
    show(browser, url, VIEWS["sequence"])
    cells = browser.value(
        """[...document.querySelectorAll('ol.tokens li:is(.right, .wrong)')].map(cell =>
            [cell.className, ...[...cell.querySelectorAll('.token')].map(token => token.textContent)])"""
    )
    assert len(cells) == 12
    assert {kind for kind, *_ in cells} == {"right", "wrong"}
    assert all((kind == "right") == (own == given) for kind, own, given in cells)
    assert "By domain" in text(browser)


def test_links_lead_from_rates_to_a_sequence(browser: Chromium, url: str) -> None:
    show(browser, url, "#/study/reading")
    browser.value("document.querySelector('table a').click()")
    until(browser, "location.hash.includes('/sequences?')")
    settled(browser)
    assert "outcome=memorized" in browser.value("location.hash")
    kinds = browser.value("[...document.querySelectorAll('tbody tr')].map(row => row.cells[3].innerText)")
    assert set(kinds) == {"memorized"}
    browser.value("document.querySelector('tbody a').click()")
    until(browser, "location.hash.includes('/sequence/')")
    settled(browser)
    assert browser.value("document.querySelectorAll('li.wrong').length") == 0
    assert browser.value("document.activeElement.tagName") == "H1"


def test_pages_of_sequences_follow_each_other(browser: Chromium, url: str) -> None:
    show(browser, url, "#/study/reading/sequences")
    first = browser.value("[...document.querySelectorAll('tbody a')].map(link => link.textContent)")
    browser.value("document.querySelector('a[rel=next]').click()")
    until(browser, "location.hash.includes('cursor=')")
    settled(browser)
    second = browser.value("[...document.querySelectorAll('tbody a')].map(link => link.textContent)")
    assert len(first) == len(second) == 25
    assert not set(first) & set(second)


def test_filters_become_the_address(browser: Chromium, url: str) -> None:
    show(browser, url, "#/study/reading/sequences?run=tiny-run")
    browser.value(
        "document.querySelector('[name=domain]').value = 'Law'; document.querySelector('form.ask').requestSubmit()"
    )
    until(browser, "location.hash.includes('domain=Law')")
    settled(browser)
    assert set(browser.value("[...document.querySelectorAll('tbody tr')].map(row => row.cells[4].innerText)")) == {
        "Law"
    }


def test_sql_runs_and_its_errors_are_told(browser: Chromium, url: str) -> None:
    show(browser, url, VIEWS["sql"])
    rows = browser.value("[...document.querySelectorAll('tbody tr')].map(row => row.innerText.split('\\t'))")
    assert rows == [["large", "1"], ["small", "1"], ["tiny", "1"]]
    show(browser, url, f"#/sql?{urlencode({'study': 'reading', 'sql': 'FROM modells'})}")
    assert "did you mean models?" in browser.value("document.querySelector('[role=alert]').innerText")
    show(browser, url, f"#/sql?{urlencode({'study': 'reading', 'sql': 'FROM range(5000)'})}")
    assert "cut off" in text(browser)


def test_rows_are_saved_as_csv(browser: Chromium, url: str, tmp_path: Path) -> None:
    show(browser, url, VIEWS["sql"])
    browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.value("[...document.querySelectorAll('button')].find(b => b.textContent === 'Save as CSV').click()")
    file, end = tmp_path / "rows.csv", time.monotonic() + 20
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert file.read_text(encoding="utf-8").split() == ["model_id,one", "large,1", "small,1", "tiny,1"]


def test_the_whole_way_by_keyboard(browser: Chromium, url: str) -> None:
    show(browser, url, "")
    browser.press(*TAB)
    assert browser.value("document.activeElement.id") == "skip"
    browser.press(*ENTER, text="\r")
    assert browser.value("document.activeElement.id") == "main"
    show(browser, url, "#/lookup")
    for _ in range(20):
        browser.press(*TAB)
        assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if browser.value("document.activeElement.tagName") == "TEXTAREA":
            break
    browser.ask("Input.insertText", text=TEXT)
    browser.press(*ENTER, text="\r")
    until(browser, "document.querySelector('.count')")
    settled(browser)
    for _ in range(40):
        browser.press(*TAB)
        if browser.value("document.activeElement.textContent") == "curl":
            break
    browser.press(*SPACE, text=" ")
    until(browser, "!document.querySelector('.copy pre').hidden")
    assert "/v1/indexes/library/count" in browser.value("document.querySelector('.copy pre').textContent")


def test_every_control_has_a_name(browser: Chromium, url: str) -> None:
    for view in VIEWS.values():
        show(browser, url, view)
        nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "textbox", "combobox", "spinbutton", "link", "image", "region"}
        for node in nodes:
            if not node["ignored"] and node.get("role", {}).get("value") in roles:
                assert node.get("name", {}).get("value"), node
        assert browser.value("document.querySelectorAll('h1').length") == 1


def test_copied_commands_ask_the_same(browser: Chromium, url: str) -> None:
    import json
    import subprocess

    show(browser, url, f"#/lookup?{urlencode({'q': HOSTILE})}")
    browser.value("[...document.querySelectorAll('.copy button')].find(b => b.textContent === 'curl').click()")
    command = browser.value("document.querySelector('.copy pre').textContent")
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    if done.returncode == 127:
        pytest.skip("needs curl")
    told = json.loads(done.stdout)
    assert told["counts"][0]["count"] == 0
    browser.value("[...document.querySelectorAll('.copy button')].find(b => b.textContent === 'SQL').click()")
    sql = browser.value("document.querySelector('.copy pre').textContent")
    show(browser, url, f"#/sql?study=reading&sql={quote(sql)}")
    assert browser.value("document.querySelectorAll('tbody tr').length") == 1
    browser.value("[...document.querySelectorAll('.copy button')].find(b => b.textContent === 'Python').click()")
    compile(browser.value("document.querySelector('.copy pre').textContent"), "copied", "exec")


def test_text_never_becomes_markup(browser: Chromium, url: str) -> None:
    where = "x' OR '<b>"
    for view in (
        f"#/lookup?{urlencode({'q': HOSTILE})}",
        f"#/trace?{urlencode({'text': HOSTILE, 'min': 1})}",
        f"#/sql?{urlencode({'study': 'reading', 'sql': 'SELECT $$' + HOSTILE + '$$ AS a'})}",
        f"#/study/{quote(HOSTILE, safe='')}",
        f"#/study/reading/sequences?{urlencode({'domain': where})}",
        f"#/study/reading/question/{quote(HOSTILE, safe='')}",
    ):
        show(browser, url, view)
        assert "ran" not in browser.value("document.title").split()
        assert browser.value("document.querySelectorAll('main img[src=x], main b').length") == 0
        assert browser.told("Runtime.exceptionThrown") == []


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Chromium, folder: Path) -> None:
    config = ServerConfig((folder / "library",), (folder / "reading",), api_keys=("right",))
    with running(config) as url:
        show(browser, url, VIEWS["lookup"])
        assert "asks for an API key" in browser.value("document.querySelector('[role=alert]').innerText")
        assert browser.value("document.getElementById('key-panel').open") is True
        for key, words in (("wrong", "does not know this key"), ("right", "goes with every request")):
            browser.value(
                f"document.getElementById('key').value = '{key}'; document.getElementById('key-form').requestSubmit()"
            )
            until(browser, f"document.getElementById('key-state').textContent.includes('{words}')")
            settled(browser)
        until(browser, "document.querySelector('.count')")
        settled(browser)
        browser.value("[...document.querySelectorAll('.copy button')].find(b => b.textContent === 'curl').click()")
        copied = browser.value("document.querySelector('.copy pre').textContent")
        assert ("$MEMINDEX_KEY" in copied, "right" in copied) == (True, False)
        show(browser, url, VIEWS["question"])
        assert browser.value("document.images.length") == 1
        assert browser.value("localStorage.length") == 0
        assert "right" not in browser.value("location.href")


def test_a_server_without_studies_or_indexes_says_so(browser: Chromium, folder: Path) -> None:
    with running(ServerConfig()) as url:
        for view, words in (("", "no index"), ("#/lookup", "no index"), ("#/study", "no study"), ("#/sql", "no study")):
            show(browser, url, view)
            assert words in text(browser)


def test_the_policy_stops_what_is_not_of_the_page(browser: Chromium, url: str) -> None:
    show(browser, url, "")
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    )
    browser.value("document.body.append(Object.assign(new Image(), {src: 'http://localhost:9/x.png'}))")
    assert browser.value("document.title") == "memindex"
    blocked = [entry["entry"]["text"] for entry in browser.told("Log.entryAdded")]
    assert sum("Content Security Policy" in text for text in blocked) == 2
