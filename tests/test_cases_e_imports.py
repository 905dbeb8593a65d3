"""Row E6: output files of vLLM and of OpenAI's API are imported as they are; what is wrong in them has its line."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from importing_world import PREFIX, SUFFIX, contents, make_world, run, store

from memindex.errors import MemindexError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made, tmp_path):
    shutil.copytree(made, tmp_path / "world")
    return tmp_path / "world"


@pytest.fixture
def truth(world):
    """The study's sequences, read by pandas alone: sequence_id -> prefix and suffix ids."""
    files = sorted((world / "study" / "tables" / "sequences").rglob("*.parquet"))
    table = pd.concat([pd.read_parquet(file) for file in files])
    return {
        int(row.sequence_id): (row.prefix.tolist(), row.suffix.tolist())
        for row in table.sort_values("sequence_id").itertuples()
    }


def write(world, lines, name="output.jsonl"):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (world / name).write_text(text, encoding="utf-8")
    return world / name


def imported(world, lines, *options):
    run(world, "import", "jsonl", write(world, lines), "--model-id", "m", *options)
    return {row["sequence_id"]: row for row in store(world).read("continuations").to_pylist()}


def refused(world, lines, message, *options):
    """The import says one line that holds `message`, and leaves the study as it was."""
    before = contents(world)
    with pytest.raises(MemindexError) as error:
        run(world, "import", "jsonl", write(world, lines), "--model-id", "m", *options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(world) == before


def text(ids):
    return bytes(ids).decode()


def generated(truth):
    """What a model might say: parts of the suffix, more than it, some of it wrong; the same after equal prefixes."""
    said, after = {}, {}
    for place, (number, (prefix, suffix)) in enumerate(truth.items()):
        kind = place % 4
        made = [suffix[:2], [*suffix, 120, 120], [*suffix[:3], 122, 122], [122] * SUFFIX][kind]
        said[number] = after.setdefault(tuple(prefix), made)
    return said


def check(rows, truth, said):
    """Scores by plain numpy: the share of positions that are right; what is missing is wrong, what is beyond is cut."""
    assert sorted(rows) == sorted(said)
    for number, ids in said.items():
        suffix = truth[number][1]
        right = [i < len(ids) and ids[i] == suffix[i] for i in range(SUFFIX)]
        assert rows[number]["continuation"] == ids[:SUFFIX]
        assert rows[number]["score"] == np.float32(sum(right) / SUFFIX)
        assert rows[number]["memorized"] == all(right)


def request_output(request_id, prompt, ids, **more):
    """One vLLM RequestOutput as JSON; its completion may have further fields."""
    output = {"index": 0, "text": text(ids), "token_ids": ids, "cumulative_logprob": None, "logprobs": None}
    output |= {"finish_reason": "length", "stop_reason": None}
    line = {"request_id": request_id, "prompt": None, "prompt_token_ids": prompt, "prompt_logprobs": None}
    return line | {"outputs": [output | more], "finished": True, "metrics": None}


def batch_row(custom_id, body, status=200, error=None):
    response = {"status_code": status, "request_id": "req", "body": body}
    return {"id": "batch_req", "custom_id": custom_id, "response": response, "error": error}


def completion(*texts, **more):
    choices = [{"index": i, "text": said, "logprobs": None, "finish_reason": "length"} for i, said in enumerate(texts)]
    body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "org/served", "choices": choices}
    return body | {"usage": {"prompt_tokens": 6}} | more


def chat(said, **more):
    message = {"role": "assistant", "content": said, "refusal": None}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "org/served", "choices": choices} | more


def test_e6_request_outputs_of_vllm(world, truth):
    said = generated(truth)
    # vLLM counts requests: here in another order than the study's.
    order = list(reversed(truth))
    lines = [request_output(str(place), truth[number][0], said[number]) for place, number in enumerate(order)]
    check(imported(world, lines), truth, said)


def test_e6_request_outputs_with_a_first_token_or_only_texts(world, truth):
    said = generated(truth)
    lines = []
    for place, number in enumerate(truth):
        line = request_output(f"r{place}", [1, *truth[number][0]], said[number])
        if place % 2:
            # Of another tokenizer: its ids mean nothing here, its texts do.
            line |= {"prompt": text(truth[number][0]), "prompt_token_ids": [7, 8]}
            line["outputs"][0] |= {"token_ids": [5, 6]}
        lines.append(line)
    check(imported(world, lines), truth, said)


def test_e6_a_batch_goes_out_and_comes_back(world, truth, capsys):
    run(world, "export", "--batch", "org/served", "--out", world / "requests.jsonl")
    requests = [json.loads(line) for line in (world / "requests.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [request["body"]["prompt"] for request in requests] == [prefix for prefix, _ in truth.values()]
    for request in requests:
        assert set(request) == {"custom_id", "method", "url", "body"}
        assert (request["method"], request["url"]) == ("POST", "/v1/completions")
        assert request["body"] | {"prompt": 0} == {
            "model": "org/served", "prompt": 0, "max_tokens": SUFFIX, "temperature": 0}  # fmt: skip
    assert [request["custom_id"] for request in requests] == [f"sequence-{number}" for number in truth]
    said = generated(truth)
    rows = [
        batch_row(request["custom_id"], completion(text(said[number])))
        for number, request in zip(truth, requests, strict=True)
    ]
    # A batch's output is in any order; the model is the one that answered.
    run(world, "import", "jsonl", write(world, rows[::-1]))
    check({row["sequence_id"]: row for row in store(world).read("continuations").to_pylist()}, truth, said)
    assert store(world).read("models").column("model_id").to_pylist() == ["org/served"]
    refused(world, requests, "line 1: a request of a batch, not its result: give the batch's output file")


def test_e6_chat_rows_and_plain_numbers_as_custom_id(world, truth):
    said = generated(truth)
    # A chat's prompt holds more than the prefix.
    lines = [batch_row(str(n), chat(text(ids), prompt_token_ids=[9, *truth[n][0], 9])) for n, ids in said.items()]
    check(imported(world, lines), truth, said)


def test_e6_completion_objects_by_prompt_or_sequence_id(world, truth):
    said = generated(truth)
    lines = []
    for place, (number, ids) in enumerate(said.items()):
        prefix = truth[number][0]
        equal = sum(other == prefix for other, _ in truth.values()) > 1
        prompt = [{"sequence_id": number}, {"prompt": text(prefix)}, {"prompt": prefix}][0 if equal else place % 3]
        lines.append(completion(text(ids), **prompt))
    check(imported(world, lines), truth, said)
    refused(world, [completion("x")], "line 1: needs sequence_id, custom_id, prompt or prompt_token_ids; found keys id")


def test_e6_own_sequences_have_a_suffix(world, truth):
    prefix, suffix = truth[0]
    lines = [request_output("0", prefix, suffix) | {"suffix": suffix}, completion("zz", prompt="ab", suffix="zzz")]
    run(world, "import", "jsonl", write(world, lines), "--model-id", "m")
    found = store(world).read("continuations").to_pylist()
    assert [row["score"] for row in found] == [1.0, np.float32(2 / 3)]
    assert [row["prefix"] for row in store(world).read("sequences").to_pylist() if row["sample"] == "imported"] == [
        prefix, list(b"ab")]  # fmt: skip


def test_e6_of_several_choices_the_lowest_index_is_taken(world, truth, capsys):
    suffix = truth[3][1]
    body = completion("zzzz", text(suffix))
    body["choices"][0]["index"], body["choices"][1]["index"] = 1, 0
    rows = imported(world, [batch_row("sequence-3", body), request_output("0", truth[4][0], [122])])
    assert rows[3]["memorized"]
    assert "1 requests have several outputs: the one of the lowest index was taken" in capsys.readouterr().err


def test_e6_log_probabilities_where_there_are_ids(world, truth):
    values = [-0.5, -1.5, -0.25, -2.0]
    ids = {n: suffix for n, (_, suffix) in truth.items()}
    by_id = [{str(t): {"logprob": v, "rank": 1, "decoded_token": "?"}, "3": {"logprob": -9.0}}
             for t, v in zip(ids[0], values, strict=True)]  # fmt: skip
    named = [f"token_id:{token}" for token in ids[1]]
    bodies = [completion("?", "?") for _ in range(2)] + [chat("?")]
    bodies[0]["choices"][0] |= {"text": text(ids[1]), "logprobs": {"tokens": named, "token_logprobs": values}}
    # Tokens as text say no ids: their log-probabilities may be of other tokens.
    letters = {"tokens": [text([token]) for token in ids[2]], "token_logprobs": values}
    bodies[1]["choices"][0] |= {"text": text(ids[2]), "logprobs": letters}
    content = [{"token": f"token_id:{t}", "logprob": v} for t, v in zip(ids[3], values, strict=True)]
    bodies[2]["choices"][0] |= {"logprobs": {"content": content}}
    lines = [request_output("0", truth[0][0], ids[0], logprobs=by_id)]
    lines += [batch_row(str(n), body) for n, body in enumerate(bodies, 1)]
    rows = imported(world, lines)
    assert [rows[n]["token_logprobs"] for n in range(4)] == [values, values, None, values]
    assert rows[0]["suffix_logprob"] == np.float32(sum(values))


def test_e6_equal_prefixes_need_a_name(world, truth):
    table = store(world).read("sequences").to_pydict()
    again = {name: values[:1] for name, values in table.items()} | {"sequence_id": [500], "suffix": [[1, 2, 3, 4]]}
    store(world).write("sequences", "again", again)
    prefix = truth[0][0]
    message = "line 1: its prompt is the prefix of 2 sequences (0, 500), and not all of them have an answer: add a seq"
    answer = request_output("500", prefix, [1, 2, 3, 4])
    refused(world, [answer], message)
    refused(world, [answer] * 3, "line 3: sequence 500 is there twice, first in ")
    # In order, whatever a counter of requests says; a name says more.
    rows = imported(world, [answer, answer])
    assert {number: row["memorized"] for number, row in rows.items()} == {500: True, 0: False}
    named = imported(world, [answer | {"sequence_id": 500}], "--name", "a")
    assert named[500]["memorized"]
    run(world, "import", "jsonl", write(world, [answer | {"request_id": "sequence-0"}]), "--model-id", "n")
    assert [row["sequence_id"] for row in store(world).read("continuations").to_pylist()[-1:]] == [0]


FAILED = {
    "no response": ({"custom_id": "1", "response": None, "error": {"code": "batch_expired", "message": "too\nlate"}},
                    'the request "1" failed: too late'),
    "neither": ({"custom_id": "1", "response": None, "error": None}, 'the request "1" has no response'),
    "status": (batch_row("1", {"error": {"message": "prompt too long", "code": 400}}, status=400),
               'the request "1" failed with status 400: prompt too long'),
    "no body": (batch_row("1", None, status=500), 'the request "1" failed with status 500: missing'),
    "error object": ({"object": "error", "error": {"message": "no such model"}}, "the request failed: no such model"),
    "finish reason": (request_output("0", [1], [1], finish_reason="error"), "ended with finish_reason error"),
    "abort": (batch_row("1", completion() | {"choices": [{"text": "", "finish_reason": "abort"}]}),
              "the request ended with finish_reason abort"),
    "unfinished": (request_output("0", [1], [1]) | {"finished": False}, "the request is not finished"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILED)
def test_e6_failed_requests_have_their_line_or_are_skipped(world, truth, case, capsys):
    line, message = FAILED[case]
    good = batch_row("sequence-0", completion(text(truth[0][1])))
    refused(world, [good, line], "output.jsonl, line 2: the request ")
    refused(world, [line], "output.jsonl, line 1: the request ")
    refused(world, [line], f"{message}; repeat it, remove the line, or pass --skip-failed")
    refused(world, [line], "output.jsonl: every request failed", "--skip-failed")
    capsys.readouterr()
    assert list(imported(world, [line, good, line], "--skip-failed")) == [0]
    assert "skipped 2 requests that failed" in capsys.readouterr().err


LACKING = {
    "no text": (batch_row("1", chat(None)), "needs text, message.content or token_ids; found keys role, content"),
    "parts": (batch_row("1", chat([{"type": "text"}])), "the generated text must be text"),
    "delta": (completion() | {"choices": [{"delta": {}}]},
              "needs text, message.content or token_ids; found keys delta"),
    "no choices": (batch_row("1", {"output": [], "id": "resp"}),
                   "needs response.body with choices; found keys output, id"),
    "empty": (batch_row("1", completion()), "needs choices as a list of objects; found []"),
    "embedding": ({"request_id": "1", "outputs": {"embedding": [0.5]}},
                  "needs outputs as a list of objects; found keys embedding"),
    "index": (batch_row("1", {"choices": [{"index": "0", "text": ""}]}), "an index in choices is not a whole number"),
    "no prompt": (request_output("1", None, [1]), "needs sequence_id, custom_id, prompt or prompt_token_ids"),
    "other prompt": (request_output("1", [9, 9], [1]), "its prompt is not the prefix of any sequence of the study"),
    "custom id": (batch_row("request-1", completion("x")), 'as "12" or "sequence-12"; it is "request-1"'),
    "number": (batch_row(3.5, completion("x")), 'as "12" or "sequence-12"; it is 3.5'),
    "unknown": (batch_row("sequence-999", completion("x")), "the study has no sequence 999"),
    "no response": ({"custom_id": "1", "result": {}}, "needs response; found keys custom_id, result"),
    "neither": ({"sequence_id": 3, "text": "x"}, "needs continuation, and sequence_id or prefix and suffix; found"),
    "array": ("[{}]", "not a JSON object, but an array: write one object per line"),
    "surrogate": (batch_row("1", completion("\ud800")), "the generated text holds half of a surrogate pair"),
    "twice": (batch_row("0", completion("x")), "sequence 0 is there twice, first in "),
}  # fmt: skip


@pytest.mark.parametrize("case", LACKING)
def test_e6_what_is_lacking_has_its_line(world, truth, case):
    line, message = LACKING[case]
    good = batch_row("sequence-0", completion(text(truth[0][1])))
    refused(world, [good, line], message)
    before = contents(world)
    with pytest.raises(MemindexError, match=re.escape("output.jsonl, line 2: ")):
        run(world, "import", "jsonl", world / "output.jsonl", "--model-id", "m")
    assert contents(world) == before


@pytest.mark.parametrize("depth", [400, 900])
def test_e6_deep_nesting_is_one_line(world, depth):
    nested = '{"error": ' * depth + "1" + "}" * depth
    refused(world, [nested], "line 1: ")
    refused(world, ['{"choices": ' + "[" * depth + "]" * depth + "}"], "line 1: ")


def test_e6_a_file_that_was_cut_off(world, truth):
    lines = [json.dumps(batch_row(str(n), completion(text(suffix)))) for n, (_, suffix) in truth.items()]
    file = write(world, lines)
    file.write_bytes(file.read_bytes()[:-40])
    before = contents(world)
    with pytest.raises(MemindexError, match=rf"line {len(lines)}: not JSON: .*; the file ends here: was it cut off\?"):
        run(world, "import", "jsonl", file, "--model-id", "m")
    assert contents(world) == before
    # A whole last line needs no newline.
    file.write_text("\n".join(lines), encoding="utf-8")
    run(world, "import", "jsonl", file, "--model-id", "m")
    assert len(store(world).read("continuations")) == len(truth)


def test_e6_a_prompt_that_is_not_that_of_its_name(world, truth):
    line = batch_row("sequence-1", completion("x", prompt=truth[2][0]))
    refused(world, [line], "line 1: names sequence 1, but its prompt is not that one's prefix")
    assert len(truth[2][0]) == PREFIX
