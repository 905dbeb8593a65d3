"""`memindex documents`, `trace` and `next` as a user runs them: against brute force over the documents' tokens."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import tokenizers
from infini_gram_folder import write_folder
from synthetic_corpus import assert_refused, memindex, sentences, train_bpe, write_jsonl
from test_cli_build import run  # noqa: F401  (a fixture)

from memindex.corpus.sources import ReadOptions
from memindex.index import Index, build_index

DOMAINS = ["é", "b", "c 3"]

#: Some texts stand in several documents, and some hold what terminals obey or tokenizers split.
TEXTS = [
    *sentences(40),
    *sentences(5),
    "",
    " the lazy naïve fox 日本語 😀 jumps over the lazy naïve fox",
    "red \x1b[31m fox \x9b31m\r\nsecond [bold]line[/bold] \x07",
    "no other",
]
ROWS = [
    {"text": text, "d": DOMAINS[i % 3], "number": i, "title": f"T{i}", "list": [1, {"a": None}]}
    for i, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lookups")
    train_bpe(folder / "small.json")
    write_jsonl(folder / "a.jsonl", ROWS)
    options = ReadOptions("text", "d")
    build_index([folder / "a.jsonl"], folder / "pile", tokenizer=folder / "small.json", options=options, shards=2)
    return folder / "pile"


@pytest.fixture(scope="module")
def in_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    write_jsonl(folder / "a.jsonl", ROWS)
    build_index([folder / "a.jsonl"], folder / "b", tokenizer="bytes", options=ReadOptions("text", "d"))
    return folder / "b"


@pytest.fixture(scope="module")
def slow(index):
    return tokenizers.Tokenizer.from_file(str(index / "tokenizer.json"))


@pytest.fixture(scope="module")
def corpus(slow):
    return [slow.encode(text, add_special_tokens=False).ids for text in TEXTS]


def places(document, query):
    return [i for i in range(len(document) - len(query) + 1) if document[i : i + len(query)] == query]


def count(corpus, query):
    return sum(len(places(document, query)) for document in corpus)


def answers(result, stderr=""):
    assert (result.returncode, result.stderr) == (0, stderr), result.stderr
    # Not splitlines: JSON strings may hold line separators of Unicode.
    return [json.loads(line) for line in result.stdout.split("\n")[:-1]]


def spans_in(result):
    (answer,) = answers(result)
    return answer["spans"]


QUERIES = [" the", " quick brown", " fox", " lazy naïve", "日", "nowhere 日本 😀"]


def test_documents_are_those_that_hold_the_query(run, index, slow, corpus):  # noqa: F811
    result = run("documents", "-i", index, *QUERIES, "--limit", 1000, "--max-tokens", 7, "--json")
    got = answers(result, '"nowhere 日本 😀": 0 times\n')
    shards = [Index.open(index).tokens_of_shard(shard) for shard in range(2)]
    found = Counter()
    for answer in got:
        assert list(answer) == [
            "query", "query_tokens", "count", "documents_at_least", "documents_at_most", "shard", "document",
            "position", "match", "document_tokens", "start", "tokens", "text", "domain", "path", "line", "metadata",
        ]  # fmt: skip
        query, number = answer["query_tokens"], answer["line"] - 1
        assert query == slow.encode(answer["query"], add_special_tokens=False).ids
        assert answer["count"] == count(corpus, query)
        holding = sum(bool(places(document, query)) for document in corpus)
        assert answer["documents_at_least"] == answer["documents_at_most"] == holding
        document = corpus[number]
        assert document[answer["match"] : answer["match"] + len(query)] == query
        assert shards[answer["shard"]][answer["position"] - answer["match"] :][: len(document)].tolist() == document
        assert answer["tokens"] == document[answer["start"] : answer["start"] + 7]
        assert len(answer["tokens"]) == min(7, len(document)) == min(7, answer["document_tokens"])
        assert answer["start"] <= answer["match"] <= answer["match"] + len(query) <= answer["start"] + 7
        assert answer["text"] == slow.decode(answer["tokens"], skip_special_tokens=False)
        assert (answer["domain"], answer["path"]) == (ROWS[number]["d"], "a.jsonl")
        assert answer["metadata"] == {k: v for k, v in ROWS[number].items() if k != "text"}
        found[answer["query"], number, answer["match"]] += 1
    expected = {
        (query, number, place): 1
        for query in QUERIES
        for number, document in enumerate(corpus)
        for place in places(document, slow.encode(query, add_special_tokens=False).ids)
    }
    assert found == expected
    asked = [QUERIES.index(answer["query"]) for answer in got]
    assert asked == sorted(asked)


def test_a_limit_takes_occurrences_of_each_query(run, index, corpus, slow):  # noqa: F811
    everything = answers(run("documents", "-i", index, " the", " fox", "--limit", 1000, "--json"))
    for options in ([], ["--seed", 5]):
        got = answers(run("documents", "-i", index, " the", " fox", "--limit", 3, "--json", *options))
        assert [answer["query"] for answer in got] == [" the"] * 3 + [" fox"] * 3
        assert all(answer in everything for answer in got)
        assert {answer["count"] for answer in got[:3]} == {count(corpus, slow.encode(" the").ids)}
        again = answers(run("documents", "-i", index, " the", " fox", "--limit", 3, "--json", *options))
        assert again == got
    starts = {
        tuple(a["position"] for a in answers(run("documents", "-i", index, " the", "--json", "--seed", seed)))
        for seed in range(5)
    }
    assert len(starts) > 1


def test_documents_of_ids_and_a_match_longer_than_the_excerpt(run, index, corpus):  # noqa: F811
    ids = " ".join(map(str, corpus[2]))
    (first, second) = answers(run("documents", "-i", index, "--ids", ids, "--max-tokens", 3, "--json"))
    assert [first["query_tokens"], first["tokens"], first["match"]] == [corpus[2], corpus[2][:3], 0]
    assert {first["line"], second["line"]} == {3, 43}


def blocks(text):
    """Headings and excerpts: what an empty line precedes."""
    return [block.split("\n", 1) for block in text.removesuffix("\n").split("\n\n")]


def test_people_see_where_documents_come_from_and_their_text(run, index, corpus, slow):  # noqa: F811
    result = run("documents", "-i", index, " lazy naïve fox", "--max-tokens", 1000)
    assert (result.returncode, result.stderr) == (0, "")
    (headline,), *shown = blocks(result.stdout)
    ids = slow.encode(" lazy naïve fox").ids
    number = TEXTS.index(" the lazy naïve fox 日本語 😀 jumps over the lazy naïve fox")
    assert headline == f'" lazy naïve fox": 2 times in 1 documents (ids {" ".join(map(str, ids))})'
    assert [text for _, text in shown] == [TEXTS[number]] * 2
    for heading, _ in shown:
        assert heading.startswith(f"{ROWS[number]['d']}  a.jsonl:{number + 1}  (document ")
    matches = places(corpus[number], ids)
    assert sorted(int(heading.split(" token ")[1].split(" of ")[0]) for heading, _ in shown) == matches


def test_people_see_how_many_there_are_and_that_excerpts_are_cut(run, index, corpus, slow):  # noqa: F811
    result = run("documents", "-i", index, " the", "zzz", "--limit", 2, "--max-tokens", 5)
    (headline,), first, _, (absent,) = blocks(result.stdout)
    ids = slow.encode(" the").ids
    holding = sum(bool(places(document, ids)) for document in corpus)
    assert f'" the": {count(corpus, ids)} times in {holding} documents' in headline
    assert headline.endswith("; 2 of them:")
    assert first[1].startswith("…") or first[1].endswith("…")
    assert absent.startswith('"zzz": 0 times in 0 documents')


def on_terminal(*arguments, **environment):
    """Run the command line with colours and the width of a terminal."""
    from rich.console import Console

    from memindex.cli import cli, output

    with pytest.MonkeyPatch.context() as patch:
        made = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False, _environ=environment)
        patch.setattr(output, "console", lambda stderr=False: made)
        cli.main([str(argument) for argument in arguments], standalone_mode=False)
        return made.file.getvalue()


def test_the_match_stands_out_on_a_terminal(index):
    plain = {"TERM": "xterm-256color"}
    text = on_terminal("documents", "-i", index, " naïve", "--max-tokens", 1000, **plain)
    assert text.count("\x1b[1;30;43m naïve\x1b[0m") == 2
    text = on_terminal("documents", "-i", index, " naïve", "--max-tokens", 1000, **plain, NO_COLOR="1")
    assert text.count("\x1b[1m naïve\x1b[0m") == 2
    assert "43m" not in text


def test_a_match_inside_a_character_is_decoded_by_itself(in_bytes):
    middle = "😀".encode()[1:3]
    ids = " ".join(map(str, middle))
    text = on_terminal("documents", "-i", in_bytes, "--ids", ids, "--max-tokens", 10, TERM="xterm-256color")
    match = f"\x1b[1;30;43m{middle.decode(errors='replace')}\x1b[0m"
    assert f" \ufffd{match}\ufffd ju…" in text


def test_documents_do_nothing_to_the_terminal(run, index):  # noqa: F811
    for arguments in (["documents", "red", "second"], ["next", "red"], ["trace", TEXTS[-2], "--min-tokens", "2"]):
        result = run(arguments[0], "-i", index, *arguments[1:])
        assert result.returncode == 0
        assert set("\x1b\x9b\x07\r") & set(result.stdout) == set()
    result = run("documents", "-i", index, "red", "--max-tokens", 1000)
    assert "␛[31m fox \ufffd31m\nsecond [bold]line[/bold] ␇" in result.stdout


def test_metadata_that_json_or_utf8_can_not_hold(run, tmp_path):  # noqa: F811
    deep = '{"text": "abc", "k": ' + "[" * 3000 + "]" * 3000 + "}"
    half = '{"text": "abc", "m": "\\ud83d"}'
    (tmp_path / "a.jsonl").write_text(f"{deep}\n{half}\n")
    build_index([tmp_path / "a.jsonl"], tmp_path / "i", tokenizer="bytes")
    result = run("documents", "-i", tmp_path / "i", "abc", "--json")
    by_text = {str(answer["metadata"])[:4]: answer for answer in answers(result)}
    assert by_text["{'m'"]["metadata"] == {"m": "\ufffd"}
    assert by_text["{'m'"]["line"] == 2
    (other,) = (answer for key, answer in by_text.items() if key != "{'m'")
    assert isinstance(other["metadata"], str)
    assert "[" * 3000 in other["metadata"]
    assert run("documents", "-i", tmp_path / "i", "abc").returncode == 0


def maximal(corpus, query, least, most=None):
    """(start, length, count) of every maximal span, by trying all."""
    occurs = {(i, j) for i in range(len(query)) for j in range(i + 1, len(query) + 1) if count(corpus, query[i:j])}
    return [
        (i, j - i, count(corpus, query[i:j]))
        for i, j in sorted(occurs)
        if j - i >= least and (i - 1, j) not in occurs and (i, j + 1) not in occurs
        if most is None or count(corpus, query[i:j]) <= most
    ]


TRACED = [
    "xx the lazy naïve fox 日本語 😀 jumps high, quick brown fox mix no other",
    TEXTS[3] + TEXTS[4],
    "Zürich",
    "é",
]


@pytest.mark.parametrize("text", TRACED)
@pytest.mark.parametrize(("least", "most"), [(1, None), (3, None), (2, 2)])
def test_spans_are_the_maximal_ones(run, index, slow, corpus, text, least, most):  # noqa: F811
    options = [] if most is None else ["--max-count", most]
    got = spans_in(run("trace", "-i", index, text, "--min-tokens", least, "--json", *options))
    encoded = slow.encode(text, add_special_tokens=False)
    expected = maximal(corpus, encoded.ids, least, most)
    assert [(span["start"], span["length"], span["count"]) for span in got] == expected
    for span in got:
        assert list(span) == ["start", "length", "tokens", "text", "count", "characters"]
        start, end = span["start"], span["start"] + span["length"]
        assert span["tokens"] == encoded.ids[start:end]
        assert span["text"] == slow.decode(span["tokens"], skip_special_tokens=False)
        first, last = span["characters"]
        assert (first, last) == (encoded.offsets[start][0], encoded.offsets[end - 1][1])
        if "\ufffd" not in span["text"]:
            assert text[first:last] == span["text"]


def test_spans_of_bytes_tell_their_characters(run, in_bytes):  # noqa: F811
    text = "x naïve fox 日本Q語 😀!"
    got = spans_in(run("trace", "-i", in_bytes, text, "--min-tokens", "4", "--json"))
    assert [text[slice(*span["characters"])] for span in got] == [" naïve fox 日本", "語 😀"]
    split = spans_in(run("trace", "-i", in_bytes, "語本", "--min-tokens", "1", "--json"))
    assert (split[0]["characters"], split[-1]["characters"]) == ([0, 1], [1, 2])


def test_spans_of_ids_have_no_characters(run, index, corpus, slow):  # noqa: F811
    ids = [*corpus[3][2:9], 399, *corpus[4][1:7]]
    got = spans_in(run("trace", "-i", index, "--ids", " ".join(map(str, ids)), "--min-tokens", 2, "--json"))
    assert [(span["start"], span["length"], span["count"]) for span in got] == maximal(corpus, ids, 2)
    assert {span["characters"] for span in got} == {None}


def test_standard_input_is_one_text(index, run, slow, corpus):  # noqa: F811
    text = f"{TRACED[0]}\n\n{TRACED[1]}\r\n"
    command = [sys.executable, "-m", "memindex.cli", "trace", "-i", str(index), "-", "--min-tokens", "2", "--json"]
    result = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    got = json.loads(result.stdout)["spans"]
    ids = slow.encode(text, add_special_tokens=False).ids
    assert [(span["start"], span["length"], span["count"]) for span in got] == maximal(corpus, ids, 2)
    bad = subprocess.run(command, input=b"ok \xff", capture_output=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, b"")
    assert bad.stderr == b"memindex: standard input: not UTF-8 text (byte 3)\n"
    nothing = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert (nothing.returncode, nothing.stdout, len(nothing.stderr.splitlines())) == (2, b"", 1)
    assert b"empty" in nothing.stderr


def test_sources_hold_their_span(run, index, corpus):  # noqa: F811
    got = spans_in(run("trace", "-i", index, TRACED[1], "--min-tokens", 2, "--sources", 3, "--json"))
    shards = [Index.open(index).tokens_of_shard(shard) for shard in range(2)]
    assert len(got) > 1
    for span in got:
        assert len(span["sources"]) == min(3, span["count"])
        assert len({(source["shard"], source["position"]) for source in span["sources"]}) == len(span["sources"])
        for source in span["sources"]:
            number, match, width = source["line"] - 1, source["match"], span["length"]
            assert corpus[number][match : match + width] == span["tokens"]
            assert shards[source["shard"]][source["position"] :][:width].tolist() == span["tokens"]
            assert (source["domain"], source["path"]) == (ROWS[number]["d"], "a.jsonl")


def test_people_see_the_longest_spans_first_and_the_share(run, index, corpus, slow):  # noqa: F811
    result = run("trace", "-i", index, TRACED[0], "--min-tokens", 2, "--sources", 2)
    assert (result.returncode, result.stderr) == (0, "")
    ids = slow.encode(TRACED[0], add_special_tokens=False).ids
    spans = maximal(corpus, ids, 2)
    covered = {i for start, length, _ in spans for i in range(start, start + length)}
    headline, *lines = result.stdout.splitlines()
    share = f"{len(covered) / len(ids):.1%}"
    assert headline == f"{len(covered)} of {len(ids)} tokens ({share}) stand in {len(spans)} spans of at least 2 tokens"
    assert 0 < len(covered) < len(ids)
    numbers = [tuple(map(int, line.split()[:3])) for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    ranked = sorted(spans, key=lambda span: (-span[1], span[0]))
    assert numbers == [(length, number, start) for start, length, number in ranked]
    number = TEXTS.index(" the lazy naïve fox 日本語 😀 jumps over the lazy naïve fox")
    assert any(
        " the lazy naïve fox 日本語 😀 jumps" in x and f"{DOMAINS[number % 3]}  a.jsonl:{number + 1}" in x
        for x in lines
    )


def test_overlapping_spans_are_covered_once(run, tmp_path):  # noqa: F811
    write_jsonl(tmp_path / "a.jsonl", [{"text": "abcdef"}, {"text": "defghi"}, {"text": "efghij"}])
    build_index([tmp_path / "a.jsonl"], tmp_path / "i", tokenizer="bytes")
    result = run("trace", "-i", tmp_path / "i", "abcdefghijkl", "--min-tokens", "3")
    assert result.stdout.startswith("10 of 12 tokens (83.3%) stand in 3 spans of at least 3 tokens\n")
    result = run("trace", "-i", tmp_path / "i", "xyz")
    assert result.stdout == "0 of 3 tokens (0.0%) stand in 0 spans of at least 8 tokens\n"
    assert spans_in(run("trace", "-i", tmp_path / "i", "xyz", "--json")) == []


def test_more_spans_than_a_terminal_shows(run, index, monkeypatch):  # noqa: F811
    monkeypatch.setattr("memindex.cli.trace.MOST_TABLE_ROWS", 2)
    told = len(spans_in(run("trace", "-i", index, TRACED[0], "--min-tokens", 1, "--json")))
    result = run("trace", "-i", index, TRACED[0], "--min-tokens", 1)
    assert told > 2
    assert result.stderr == ""
    assert sum(line.strip()[:1].isdigit() for line in result.stdout.splitlines()[1:]) == told


def following(corpus, query):
    """How often each token follows in each domain; None is the end of a document."""
    found = {}
    for number, document in enumerate(corpus):
        for place in places(document, query):
            token = ([*document, None])[place + len(query)]
            found.setdefault(token, [0, 0, 0])[number % 3] += 1
    return found


NEXT = [" the", " quick brown", " fox", "er", "nowhere 日本 😀"]


@pytest.mark.parametrize("by_domain", [False, True])
@pytest.mark.parametrize("top", [1, 3, 1000])
def test_next_tokens_are_counted(run, index, slow, corpus, by_domain, top):  # noqa: F811
    options = ["--by-domain"] if by_domain else []
    got = answers(run("next", "-i", index, *NEXT, "--top", top, "--json", *options))
    assert [answer["query"] for answer in got] == NEXT
    for answer in got:
        query = slow.encode(answer["query"], add_special_tokens=False).ids
        found = following(corpus, query)
        total = count(corpus, query)
        assert (answer["tokens"], answer["count"]) == (query, total)
        assert answer["distinct"] == len(found.keys() - {None})
        tokens = [entry["token"] for entry in answer["next"]]
        assert len(set(tokens)) == len(tokens) == min(top, answer["distinct"])
        counts = [entry["count"] for entry in answer["next"]]
        assert counts == sorted((sum(row) for token, row in found.items() if token is not None), reverse=True)[:top]
        ends = answer["end_of_document"] | {"token": None}
        for entry in [*answer["next"], ends]:
            row = found.get(entry["token"], [0, 0, 0])
            assert entry["count"] == sum(row)
            assert entry["share"] == (sum(row) / total if total else None)
            in_domains = {name: number for name, number in zip(DOMAINS, row, strict=True) if number}
            assert entry.get("domains") == (in_domains if by_domain else None)
        for entry in answer["next"]:
            assert entry["text"] == slow.decode([entry["token"]], skip_special_tokens=False)


def test_next_tokens_of_ids(run, index, corpus):  # noqa: F811
    query = corpus[2][1:3]
    (answer,) = answers(run("next", "-i", index, "--ids", " ".join(map(str, query)), "--json", "--top", 99))
    expected = {token: sum(row) for token, row in following(corpus, query).items() if token is not None}
    assert {entry["token"]: entry["count"] for entry in answer["next"]} == expected


def test_people_see_next_tokens_the_rest_and_the_ends(run, index, corpus, slow):  # noqa: F811
    query = slow.encode(" fox", add_special_tokens=False).ids
    found, total = following(corpus, query), count(corpus, query)
    result = run("next", "-i", index, " fox", "--top", 2, "--by-domain")
    assert (result.returncode, result.stderr) == (0, "")
    headline, *lines = result.stdout.splitlines()
    assert headline == f'" fox": {total} times, {len(found) - 1} next tokens (ids {" ".join(map(str, query))})'
    rows = [line for line in lines if "%" in line]
    assert len(rows) == 4
    numbers = [[int(word) for word in line.split()[-3:]] for line in rows]
    assert [sum(column) for column in zip(*numbers, strict=True)] == [sum(c) for c in zip(*found.values(), strict=True)]
    assert "others)" in rows[2]
    assert rows[3].split()[:3] == ["(end", "of", "document)"]
    assert numbers[3] == found[None]
    for line, row in zip(rows[:2], numbers[:2], strict=True):
        token = int(line.split()[0])
        assert found[token] == row
        assert f'"{slow.decode([token])}"' in line
        assert f" {sum(row)} " in line
        assert f" {sum(row) / total:.1%} " in line


def test_a_text_that_never_occurs_has_no_next_tokens(run, index):  # noqa: F811
    result = run("next", "-i", index, "zzz 日本")
    assert (result.returncode, result.stderr, len(result.stdout.splitlines())) == (0, "", 1)
    assert result.stdout.startswith('"zzz 日本": 0 times, 0 next tokens')


BAD_QUESTIONS = {
    "empty text": ([""], "empty"),
    "no ids": (["--ids", " "], "empty"),
    "ids that are words": (["--ids", "1 two 3"], "not a list of token ids"),
    "negative ids": (["--ids", "--", "-1"], "run from 0 to 399"),
    "ids beyond the vocabulary": (["--ids", "1 400"], "run from 0 to 399"),
    "text that is not UTF-8": ([os.fsdecode(b"caf\xe9")], "not valid Unicode"),
    "an unknown option": (["a", "--limits"], "--limit"),
}
BAD_OPTIONS = [
    ("documents", "--limit", "0"),
    ("documents", "--limit", "x"),
    ("documents", "--max-tokens", "0"),
    ("documents", "--seed", "-1"),
    ("trace", "--min-tokens", "0"),
    ("trace", "--max-count", "0"),
    ("trace", "--sources", "-1"),
    ("trace", "--sources", "1.5"),
    ("next", "--top", "0"),
]


@pytest.mark.parametrize("command", ["documents", "trace", "next"])
@pytest.mark.parametrize(("arguments", "part"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS)
def test_a_bad_question_is_refused(run, index, command, arguments, part):  # noqa: F811
    part = part if command == "documents" or arguments[-1] != "--limits" else "No such option"
    assert_refused(run(command, "-i", index, *arguments), part)
    assert_refused(run(command, "-i", index, "--json", *arguments), part)


@pytest.mark.parametrize("command", ["documents", "next"])
def test_one_empty_text_of_several_is_refused(run, index, command):  # noqa: F811
    assert_refused(run(command, "-i", index, " the", "", "--json"), "empty")


@pytest.mark.parametrize(("command", "option", "value"), BAD_OPTIONS)
def test_a_bad_option_is_refused(run, index, command, option, value):  # noqa: F811
    assert_refused(run(command, "-i", index, " the", option, value), option, value)


@pytest.mark.parametrize("command", ["documents", "trace", "next"])
def test_what_is_missing_is_told(run, index, tmp_path, command):  # noqa: F811
    assert_refused(run(command, "-i", index), "TEXT")
    assert_refused(run(command, "a"), "--index")
    assert_refused(run(command, "-i", tmp_path, "a"), "not an index")


def test_one_text_at_a_time_is_traced(run, index):  # noqa: F811
    assert_refused(run("trace", "-i", index, " the", " fox"), "unexpected extra argument")


def test_numbers_beyond_any_corpus_mean_all(run, index, corpus, slow):  # noqa: F811
    for huge in (2**63 - 1, 10**30):
        got = answers(run("documents", "-i", index, " fox", "--limit", huge, "--max-tokens", huge, "--json"))
        assert len(got) == count(corpus, slow.encode(" fox", add_special_tokens=False).ids)
        assert all(answer["tokens"] == corpus[answer["line"] - 1] for answer in got)
        (answer,) = answers(run("next", "-i", index, " fox", "--top", huge, "--json"))
        assert len(answer["next"]) == answer["distinct"]
        options = ["--min-tokens", 2, "--max-count", huge, "--sources", huge]
        got = spans_in(run("trace", "-i", index, " fox jumps", *options, "--json"))
        assert [len(span["sources"]) for span in got] == [span["count"] for span in got] != []
        assert spans_in(run("trace", "-i", index, " fox jumps", "--min-tokens", huge, "--json")) == []


def test_an_index_without_tokenizer_domains_and_metadata_answers_ids(run, tmp_path):  # noqa: F811
    documents = [[1, 2, 3], [1, 2], [4, 1, 2, 3]]
    folder = write_folder(tmp_path / "plain", [documents], 2)
    (first, *_) = answers(run("documents", "-i", folder, "--ids", "4 1", "--json"))
    assert (first["document"], first["tokens"], first["count"]) == (2, documents[2], 1)
    assert [first[name] for name in ("text", "domain", "path", "line", "metadata")] == [None] * 5
    shown = blocks(run("documents", "-i", folder, "--ids", "1 2").stdout)
    assert sorted([int(word) for word in text.split()] for _, text in shown[1:]) == sorted(documents)
    (span,) = spans_in(run("trace", "-i", folder, "--ids", "9 1 2 3", "--min-tokens", 2, "--sources", 1, "--json"))
    assert (span["start"], span["length"], span["text"], span["count"]) == (1, 3, None, 2)
    table = run("trace", "-i", folder, "--ids", "9 4 1 2 3", "--min-tokens", 2, "--sources", 1).stdout
    assert "4 1 2 3  document 2 of shard 0" in table
    (answer,) = answers(run("next", "-i", folder, "--ids", "1 2", "--json"))
    assert answer["next"] == [{"token": 3, "text": None, "count": 2, "share": 2 / 3}]
    assert run("next", "-i", folder, "--ids", "1 2").returncode == 0
    for command in ("documents", "trace", "next"):
        assert_refused(run(command, "-i", folder, "1 2"), "has no tokenizer", "--ids")
    assert_refused(run("next", "-i", folder, "--ids", "1 2", "--by-domain"), "no domain column")


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_reader_that_leaves_early_ends_the_command_quietly(index, options):
    queries = [" the"] * 60
    command = [sys.executable, "-m", "memindex.cli", "documents", "-i", index, *queries, "--limit", "100"]
    with subprocess.Popen([*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, 1)


@pytest.mark.parametrize("command", ["documents", "trace", "next"])
def test_pipes_get_no_escape_codes(index, command):
    result = memindex(command, "-i", index, TEXTS[3], env={"TERM": "xterm-256color"})
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("command", ["documents", "trace", "next"])
def test_help_tells_examples(run, command):  # noqa: F811
    result = run(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"  memindex {command} -i pile" in result.stdout
