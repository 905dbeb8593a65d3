"""Rows D1, D2 and D10 to D12 of the cases: the page in a real browser."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import duckdb
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from chromium import PROGRAM, Chromium
from family_indexes import FAMILIES, VILLAGERS, family_index
from served_app import running
from served_study import make_served
from synthetic_corpus import write_jsonl
from test_report_palette import SIGHT, distance
from test_server_page import settled, show, text

from memindex import connect
from memindex.corpus.documents import ReadOptions
from memindex.index import Index, build_index
from memindex.report.colours import contrast
from memindex.server.config import Limits, ServerConfig

pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt install chromium")]

PHONE = 390
HEBREW = "ואהבת לרעך כמוך אני הוא, והארץ הייתה תהו ובהו וחושך על פני תהום. "
ARABIC = "بسم الله الرحمن الرحيم الحمد لله رب العالمين مالك يوم الدين. "
SENTENCE = VILLAGERS
#: Its spans begin and end in the middle of words and of characters.
TRACED = f"unremembered the café, the bridges 京 — naïvely. {SENTENCE} 15 villagers"
UNBROKEN = "x" * 2000

LONG_NAME = "d" * 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    make_served(folder)
    rows = [SENTENCE, SENTENCE, f"They {SENTENCE}", HEBREW * 9, ARABIC * 9, f"{UNBROKEN} needle {UNBROKEN}"]
    write_jsonl(folder / "rows.jsonl", [{"text": row, "set": LONG_NAME} for row in rows])
    for number in (1, 2, 9, 10, 99, 100, 1000):
        write_jsonl(folder / "counts" / f"{number}.jsonl", [{"text": f"<{number}>"}] * number)
    options = ReadOptions(domain_field="set")
    build_index([folder / "rows.jsonl"], folder / "letters", tokenizer="bytes", options=options, shards=1)
    build_index([folder / "counts"], folder / "counted", tokenizer="bytes", shards=1)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    limits = Limits(max_sql_seconds=10, max_sql_memory_mb=256, max_sql_rows=1000)
    indexes = tuple(folder / name for name in ("library", "letters", "counted"))
    with running(ServerConfig(indexes, (folder / "reading",), limits)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def con(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The study, as `memindex sql` has it."""
    con = connect(folder / "reading")
    yield con
    con.close()


def go(browser: Chromium, view: str) -> None:
    """Another address of the page that is open."""
    browser.value(
        f"""new Promise(done => {{
            const before = location.hash;
            addEventListener('hashchange', done, {{once: true}});
            document.querySelector('main').dataset.ready = 'no';
            location.hash = {json.dumps(view)};
            if (location.hash === before) dispatchEvent(new HashChangeEvent('hashchange'));
        }})"""
    )
    settled(browser)


def visit(browser: Chromium, url: str, view: str, *, width: int = 1000, dark: bool = False) -> None:
    """An address of the page in a window; loads the page only where it is not there, as that takes longest."""
    if browser.value("location.origin") != url:
        show(browser, url, view, width=width, dark=dark)
        return
    browser.events.clear()
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.ask("Emulation.setEmulatedMedia", features=scheme)
    mobile = width < 500
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)
    go(browser, view)


def address(view: str, **values: object) -> str:
    return f"#/{view}?{urlencode(values)}"


def alert(browser: Chromium) -> str | None:
    return browser.value("document.querySelector('[role=alert]')?.textContent ?? null")


def others(browser: Chromium) -> list[str]:
    return browser.value("[...document.querySelectorAll('.others a')].map(link => link.textContent)")


def copied(browser: Chromium, name: str) -> str:
    browser.value(f"[...document.querySelectorAll('.copy button')].find(b => b.textContent === {name!r}).click()")
    return browser.value("document.querySelector('.copy pre').textContent")


def has_button(browser: Chromium, name: str) -> bool:
    return browser.value(f"[...document.querySelectorAll('.copy button')].some(b => b.textContent === {name!r})")


def spans_shown(browser: Chromium) -> dict[str, tuple[int, int]]:
    """Address of the lookup of every span -> occurrences and tokens, as the page says."""
    found = browser.value(
        """[...document.querySelectorAll('.traced [role=button]')].flatMap(part => {
            part.click();
            return [...document.querySelectorAll('article.document')].map(card =>
                [card.querySelector('a').hash, card.querySelector('h3').textContent]);
        })"""
    )
    number = lambda words: int(words.split()[0].replace(",", ""))  # noqa: E731
    return {link: (number(words), number(words.split(", ")[-1])) for link, words in found}


def body_rows(browser: Chromium) -> list[list[str]]:
    return browser.value("[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(c => c.innerText))")


@pytest.mark.parametrize(
    ("view", "words", "offered"),
    [
        ("#/lookup?index=pile-typo&q=the", "no index pile-typo here", ["library", "letters", "counted"]),
        ("#/lookup?index=pile-typo", "no index pile-typo here", ["library", "letters", "counted"]),
        ("#/trace?index=Library&text=the", "no index Library here", ["library", "letters", "counted"]),
        ("#/sql?study=nope&sql=SELECT+1", "no study nope here", ["reading"]),
        ("#/study/nope", "no study nope here", ["reading"]),
        ("#/study/nope/sequences", "no study nope here", ["reading"]),
        ("#/study/nope/sequence/5", "no study nope here", ["reading"]),
        ("#/study/nope/question/rate_by_size", "no study nope here", ["reading"]),
        ("#/study/reading/sequences?run=nope", "no run nope here: there are", []),
        ("#/study/reading/sequences?model=nope", "no model nope here: there are", []),
        ("#/study/reading/sequences?sample=nope", "no sample nope here: there are bucket, uniform", []),
        ("#/study/reading/sequences?domain=nope", "no domain nope here: there are Books", []),
        ("#/study/reading/sequences?bucket=40", "no bucket 40 here", []),
        ("#/study/reading/sequences?outcome=best&run=tiny-run", "no outcome best here", []),
        ("#/study/reading/sequences?order=size", "no order size here", []),
        ("#/study/reading/sequences?smaple=uniform", "no parameter smaple here", []),
        ("#/study/reading/sequence/abc", "no sequence abc here", []),
        ("#/study/reading/sequence/99999", "no sequence 99999", []),
        ("#/study/reading/sequence/5?run=nope", "no run or model nope", []),
        ("#/study/reading/question/rate_by_size?probe=nope", "no parameter 'probe'", []),
        ("#/study/reading/question/across_domains?sample=nope", "no sequences of the sample 'nope'", []),
        ("#/study/reading/question/across_domains?model=nope", "no run labelled 'nope'", []),
        ("#/study/reading/nothing", "no page study/reading/nothing here", []),
        ("#/lookpu?q=the", "no page lookpu here", []),
        ("#/lookup?text=the", "no parameter text here", []),
        ("#/lookup?ids=1,2", "ids: 1,2 are not token ids", []),
        ("#/lookup?ids=99999", "out of range", []),
        ("#/lookup?ids=12&q=the", "give one of them", []),
        ("#/trace?text=the&min=few", "min: few is not a whole number", []),
    ],
)
def test_d1_what_is_not_here_is_said(browser: Chromium, url: str, view: str, words: str, offered: list[str]) -> None:
    visit(browser, url, view)
    assert words in (alert(browser) or ""), text(browser)
    assert others(browser) == offered
    assert browser.value("document.querySelector('.count')") is None
    assert browser.value("document.querySelectorAll('[aria-busy]').length") == 0


def test_d1_what_is_here_is_offered(browser: Chromium, url: str) -> None:
    visit(browser, url, "#/lookup?index=pile-typo&q=the+night")
    browser.value("[...document.querySelectorAll('.others a')].find(link => link.textContent === 'library').click()")
    settled(browser)
    assert browser.value("location.hash") == "#/lookup?index=library&q=the+night"
    go(browser, "#/study/reading/question/nope")
    assert alert(browser) == "no question nope here"
    assert len(others(browser)) > 30
    go(browser, "#/lookup?index=&q=the")
    assert alert(browser) is None
    with running(ServerConfig()) as empty:
        visit(browser, empty, "#/lookup?index=pile")
        assert alert(browser) == "no index pile here: this server has no indexes"


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[dict[str, Path]]:
    """The indexes by each of the tokenizers, and, as "url", the server that has them."""
    indexes = {name: family_index(tmp_path_factory.getbasetemp(), shared, name) for name in FAMILIES}
    with running(ServerConfig(tuple(indexes.values()))) as url:
        yield {"url": url, **indexes}


def test_d2_occurrences_of_bytes_are_looked_up(browser: Chromium, url: str, folder: Path) -> None:
    assert_looked_up(browser, url, folder / "letters")


@pytest.mark.parametrize("name", FAMILIES)
def test_d2_the_same_occurrences_are_looked_up(browser: Chromium, families: dict[str, Any], name: str) -> None:
    assert_looked_up(browser, families["url"], families[name])


def assert_looked_up(browser: Chromium, url: str, path: Path) -> None:
    """The spans of a trace occur as often as the lookups that they link to say."""
    name = path.name
    visit(browser, url, address("trace", index=name, text=TRACED, min=1))
    spans = spans_shown(browser)
    assert len(spans) > 4
    index = Index.open(path)
    ids = {link: [int(one) for one in parse_qs(link.partition("?")[2])["ids"][0].split()] for link in spans}
    counts = index.count(list(ids.values())).tolist()
    assert {link: (count, len(ids[link])) for link, count in zip(ids, counts, strict=True)} == spans
    texts = [index.tokenizer.decode(row) for row in ids.values()]
    as_text = [index.count([text])[0] if text else 0 for text in texts]
    # Those that would be tokenized otherwise by themselves, and two more.
    other = [link for link, by_text, count in zip(ids, as_text, counts, strict=True) if by_text != count]
    assert other or name != "llama-2"
    for link in [*other[:2], *list(spans)[:2]]:
        go(browser, link)
        assert browser.value("document.querySelector('.count').textContent") == str(spans[link][0])
        assert browser.value("document.querySelectorAll('.piece').length") == spans[link][1]
        # The same form again asks the same; another text in it asks for that text.
        browser.value("document.querySelector('form.ask').requestSubmit()")
        settled(browser)
        assert parse_qs(browser.value("location.hash"))["ids"] == [" ".join(map(str, ids[link]))]
    browser.value(
        "document.querySelector('textarea').value = 'the'; document.querySelector('form.ask').requestSubmit()"
    )
    settled(browser)
    assert browser.value("location.hash") == f"#/lookup?q=the&index={name}"


@pytest.mark.parametrize("name", FAMILIES)
def test_b5_the_page_marks_letters_with_their_marks(browser: Chromium, families: dict[str, Any], name: str) -> None:
    composed = unicodedata.normalize("NFC", "5 villagers remembered the café")
    whole = unicodedata.normalize("NFD", composed) if name in ("pythia", "olmo-1") else composed
    visit(browser, families["url"], address("trace", index=name, text=f"{whole}xyz", min=5))
    parts = browser.value("[...document.querySelectorAll('.traced [role=button]')].map(part => part.textContent)")
    assert whole in parts
    assert browser.value("document.querySelector('.traced').textContent") == f"{whole}xyz"


def test_d2_a_sequence_is_looked_up_and_traced_by_its_ids(browser: Chromium, url: str, folder: Path, con: Any) -> None:
    index = Index.open(folder / "library")
    rows = con.sql(
        "SELECT sequence_id, prefix || suffix, sequence_count FROM sequences JOIN frequencies USING (sequence_id)"
    )
    found = {number: (list(tokens), count) for number, tokens, count in rows.fetchall()}
    texts = {number: index.tokenizer.decode(tokens) for number, (tokens, _) in found.items()}
    # Sequences whose text by itself has other tokens, as one that begins inside a character.
    numbers = [number for number, (tokens, _) in found.items() if index.tokenizer.encode(texts[number]) != tokens]
    assert numbers
    visit(browser, url, "")
    for number in numbers[:2]:
        tokens, count = found[number]
        go(browser, f"#/study/reading/sequence/{number}")
        links = browser.value("[...document.querySelectorAll('a')].filter(a => /ids=/.test(a.hash)).map(a => a.hash)")
        go(browser, links[0])
        assert browser.value("document.querySelector('.count').textContent") == f"{count:,}"
        go(browser, f"{links[1]}&min={len(tokens)}")
        assert spans_shown(browser) == {links[0]: (count, len(tokens))}


def test_d2_links_say_when_the_index_is_not_served(browser: Chromium, url: str) -> None:
    visit(browser, url, "")
    # What the server has is asked for again with another key.
    browser.value(
        """sessionStorage.setItem('memindex-key', 'another');
        window.asked = window.fetch;
        window.fetch = async (path, options) => path === '/v1/indexes'
            ? Response.json({indexes: []}) : window.asked(path, options)"""
    )
    try:
        go(browser, "#/study/reading/sequence/5")
        assert "does not have the index library" in text(browser)
        assert browser.value("[...document.querySelectorAll('main a')].some(a => /ids=/.test(a.hash))") is False
    finally:
        browser.value("sessionStorage.clear(); window.fetch = window.asked")


def test_d10_colours_are_by_count(browser: Chromium, url: str, folder: Path) -> None:
    counted = Index.open(folder / "counted")
    levels = {1: 0, 2: 1, 9: 1, 10: 2, 99: 2, 100: 3, 1000: 4}
    for numbers in ([1], [1000], list(levels)):
        visit(browser, url, address("trace", index="counted", text="".join(f"<{n}>" for n in numbers), min=3))
        parts = browser.value(
            "[...document.querySelectorAll('.traced [role=button]')].map(p => [p.textContent, p.className, p.title])"
        )
        for shown, style, title in parts:
            count = counted.count_one(list(shown.encode()))
            number = int(shown.strip("<>"))
            assert count == number
            assert style == f"count-{levels[number]}"
            assert title == f"{count:,} occurrence{'s' * (count > 1)}"
        assert len(parts) == len(numbers)
    legend = browser.value("[...document.querySelectorAll('.keys li')].map(key => key.textContent)")
    assert legend == ["once", "2 to 9 times", "10 to 99", "100 to 999", "1,000 or more"]


@pytest.mark.parametrize("dark", [False, True])
def test_d10_every_eye_tells_neighbouring_colours_apart(browser: Chromium, url: str, dark: bool) -> None:
    visit(browser, url, address("trace", index="counted", text="<1>", min=3), dark=dark)
    found = browser.value(
        """[...[...document.querySelectorAll('.key')].map(key => getComputedStyle(key).backgroundColor),
            getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"""
    )
    colours = ["#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)) for colour in found]
    *shades, ink = colours
    for sight in SIGHT.values():
        assert min(distance(one, other, sight) for one, other in pairwise(shades)) > 4
    assert all(contrast(ink, shade) > 4.5 for shade in shades)
    lightness = [np.dot([0.2126, 0.7152, 0.0722], [int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in shades]
    assert sorted(lightness, reverse=dark) == lightness


def test_d11_the_copied_sql_has_the_spans_that_are_shown(browser: Chromium, url: str, folder: Path, con: Any) -> None:
    traced = (
        'Somebody\'s "river": The river rose in the night and took the old bridge. Nobody in the village knew $1 % x'
    )
    for least in (1, 8):
        visit(browser, url, address("trace", index="library", text=traced, min=least))
        spans = spans_shown(browser)
        rows = con.sql(copied(browser, "SQL")).fetchall()
        assert {(count, length) for _, length, count, _ in rows} == set(spans.values())
        assert len(rows) >= len(spans)
        index = Index.open(folder / "library")
        tokens = index.tokenizer.encode(traced)
        found = index.spans([tokens], min_tokens=least)
        expected = zip(found.start.tolist(), found.length.tolist(), found.counts.tolist(), strict=True)
        assert [row[:3] for row in rows] == list(expected)
        assert all(text == index.tokenizer.decode(tokens[s : s + n]) for s, n, _, text in rows)
    # It runs on the page, too, where the note leads.
    browser.value("document.querySelector('.copy .note a').click()")
    settled(browser)
    assert [int(row[0].replace(",", "")) for row in body_rows(browser)] == found.start.tolist()


def test_d11_no_sql_where_none_can_run(browser: Chromium, url: str) -> None:
    for view in (
        address("trace", index="letters", text=SENTENCE, min=8),
        address("lookup", index="letters", q="village"),
    ):
        visit(browser, url, view)
        assert not has_button(browser, "SQL")
        assert "no study of this server has this index" in text(browser)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"order": "frequency"},
        {"run": "small-run", "order": "score", "outcome": "memorized"},
        {"run": "small-run", "order": "frequency", "bucket": "2"},
    ],
)
def test_d11_sequences_on_every_page(browser: Chromium, url: str, con: Any, values: dict[str, str]) -> None:
    visit(browser, url, address("study/reading/sequences", limit=10, **values))
    for _ in range(2):
        shown = [int(row[0]) for row in body_rows(browser)]
        assert [row[0] for row in con.sql(copied(browser, "SQL")).fetchall()] == shown
        if not browser.value("Boolean(document.querySelector('a[rel=next]'))"):
            break
        browser.value("document.querySelector('a[rel=next]').click()")
        settled(browser)


def test_d11_questions_with_other_parameters(browser: Chromium, url: str, con: Any) -> None:
    for name, values in (("score_histogram", {"bins": 4}), ("across_domains", {"domains": 3, "model": "small"})):
        visit(browser, url, address(f"study/reading/question/{name}", **values))
        rows = body_rows(browser)
        assert len(con.sql(copied(browser, "SQL")).fetchall()) == len(rows) > 0
        assert len(con.sql(browser.value("document.querySelector('details pre').textContent")).fetchall()) == len(rows)


def test_d11_the_copied_python_asks_for_the_same_text(browser: Chromium, url: str) -> None:
    hostile = '{"a":true,"b":null}:false \'\\ \n'
    visit(browser, url, address("lookup", index="library", q=hostile))
    source = copied(browser, "Python")
    asked: dict[str, Any] = {}
    fake = type("requests", (), {"post": staticmethod(lambda url, json: asked.update(json) or Answer())})
    exec(source.replace("import requests", ""), {"requests": fake, "print": lambda *_: None})
    assert asked == {"queries": [hostile], "by_domain": True}


class Answer:
    """What requests.post gives."""

    def raise_for_status(self) -> None: ...

    def json(self) -> None: ...


@pytest.mark.parametrize("sample", [HEBREW, ARABIC])
def test_d12_excerpts_have_their_own_direction(browser: Chromium, url: str, sample: str) -> None:
    word = sample.split()[3]
    for view in (address("lookup", index="letters", q=word), address("trace", index="letters", text=sample, min=9)):
        visit(browser, url, view, width=PHONE)
        browser.value("document.querySelector('.traced [role=button]')?.click()")
        directions = browser.value(
            """[...document.querySelectorAll('article.document p, .traced, textarea')].map(part =>
                getComputedStyle(part).direction)"""
        )
        assert set(directions) == {"rtl"}
        assert len(directions) > 1
    visit(browser, url, address("lookup", index="letters", q=word), width=PHONE)
    # The ellipsis at the beginning is at the right, where the text begins.
    sides = browser.value(
        """[...document.querySelectorAll('article.document p')].filter(p => p.textContent.startsWith('…')).map(p => {
            const range = new Range();
            range.setStart(p.firstChild, 0);
            range.setEnd(p.firstChild, 1);
            return range.getBoundingClientRect().right > p.getBoundingClientRect().right - 3;
        })"""
    )
    assert sides
    assert all(sides)
    visit(browser, url, address("lookup", index="library", q="The river"))
    assert set(
        browser.value("[...document.querySelectorAll('article p')].map(p => getComputedStyle(p).direction)")
    ) == {"ltr"}


PAGES = {
    "sequences": "#/study/reading/sequences?run=small-run&order=frequency",
    "sequence": "#/study/reading/sequence/5?run=small-run",
    "study": "#/study/reading",
    "table": "#/study/reading/question/most_memorized_documents",
    "sql": address("sql", study="reading", sql="SELECT *, repeat('y', 500) AS wide FROM memorization_runs LIMIT 3"),
    "unbroken": address("trace", index="letters", text=UNBROKEN[:600], min=9),
    "long": address("lookup", index="letters", q="needle"),
    "nothing": f"#/lookup?index={'n' * 300}",
}


@pytest.mark.parametrize("view", PAGES)
def test_d12_nothing_is_off_screen_on_a_phone(browser: Chromium, url: str, view: str) -> None:
    visit(browser, url, PAGES[view], width=PHONE)
    browser.value("document.querySelector('.traced [role=button]')?.click()")
    assert browser.value("document.documentElement.scrollWidth") == PHONE
    # What is wider than the screen scrolls in a box of its own.
    outside = browser.value(
        f"""[...document.querySelectorAll('main *')].filter(part => {{
            const box = part.getBoundingClientRect();
            return box.width && box.right > {PHONE} + 1 && !part.closest('.scroll, pre');
        }}).map(part => part.outerHTML.slice(0, 200))"""
    )
    assert outside == []


def test_d12_all_of_a_sequence_is_on_a_phone_s_screen(browser: Chromium, url: str) -> None:
    visit(browser, url, PAGES["sequences"], width=PHONE)
    cells = browser.value(
        """[...document.querySelectorAll('tbody tr')].flatMap(row => [...row.cells].map(cell => {
            const {left, right} = cell.getBoundingClientRect();
            return [left, right, cell.innerText, cell.dataset.name ?? ''];
        }))"""
    )
    assert len(cells) > 100
    assert all(0 <= left < right <= PHONE for left, right, *_ in cells)
    assert {name for *_, name in cells} >= {"prefix", "suffix", "continuation", "score", "occurrences"}


@pytest.mark.parametrize(
    "view",
    [
        "#/study/%E0%A4%A",
        "#/study/%",
        "#/%E0%A4%A",
        "#/lookup?q=%E0%A4%A",
        "#/lookup?index=library&q=a%FF",
        "#/study/reading/question/%ZZ",
        "#/trace?index=%C3&text=the",
    ],
)
def test_d12_a_malformed_address_is_an_error(browser: Chromium, url: str, view: str) -> None:
    visit(browser, url, view)
    assert "malformed" in (alert(browser) or "")
    assert browser.told("Runtime.exceptionThrown") == []
    go(browser, "#/lookup?index=library&q=The")
    assert alert(browser) is None


def test_d12_signs_that_are_not_malformed(browser: Chromium, url: str) -> None:
    for typed, meant in (
        ("100%", "100%"),
        ("%EF%BF%BD", "\ufffd"),
        ("\ufffd", "\ufffd"),
        (quote("100 % of"), "100 % of"),
    ):
        visit(browser, url, f"#/lookup?index=library&q={typed}")
        assert alert(browser) is None
        assert browser.value("document.querySelector('textarea').value") == meant
    # A query with a % in it can be sent again.
    visit(browser, url, "#/sql?study=reading&sql=SELECT '100%' AS a")
    browser.value("document.querySelector('form.ask').requestSubmit()")
    settled(browser)
    assert browser.told("Runtime.exceptionThrown") == []
    assert body_rows(browser) == [["100%"]]
