"""Output files of inference programs: each line becomes one as `JsonlSource` reads it.

Three kinds of objects are known by their keys:

- vLLM's RequestOutput: `outputs`, with `prompt_token_ids` or `prompt`, and `request_id`.
- a row of a batch's output file (OpenAI's batches, `vllm run-batch`): `custom_id`, `response`, `error`.
- a completion or chat completion by itself: `choices`.

Of several outputs or choices the one of the lowest index is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from memindex.errors import MemindexError
from memindex.importers.chunks import is_unicode
from memindex.importers.jsonl_columns import FACTS, RESULTS, are_ids, shown

#: Reasons to finish that leave no whole continuation.
_FAILED = ("error", "abort", "content_filter")

#: A custom_id or request_id that names a sequence: its sequence_id, alone or as `memindex export --batch` writes it.
_NAME = re.compile(r"(?P<word>sequence[-_])?(?P<number>\d{1,18})")

#: A token as vLLM writes it with return_tokens_as_token_ids.
_TOKEN = re.compile(r"token_id:(\d{1,9})")

#: Fields of other keys that a user may add to any object.
_ADDED = ("sequence_id", "suffix", "model", *RESULTS, *FACTS)

#: Keys that a message lists.
_LISTED = 12


class FailedRequestError(MemindexError):
    """A line says that its request failed."""


@dataclass(frozen=True)
class Prompt:
    """What a line says of its sequence.

    Attributes:
        ids: Tokens of the prompt.
        text: Text of the prompt.
        number: The sequence_id that its id names; None where the id may count requests, as vLLM's does.
    """

    ids: list[int] | None
    text: str | None
    number: int | None


class Answer(dict[str, Any]):
    """A line as JsonlSource reads it. Its sequence_id is None until the prompt is found among the study's sequences.

    Attributes:
        prompt: What names the sequence.
        ids: The continuation's tokens.
        text: The continuation's text.
        several: Whether there were further outputs.
    """

    prompt: Prompt
    ids: list[int] | None
    text: str | None
    several: bool

    def take(self, *, ids: bool) -> None:
        """Choose what the continuation is: its ids if they are of the study's tokenizer, else its text."""
        by_ids = self.ids is not None and (ids or self.text is None)
        self["continuation"] = self.ids if by_ids else self.text
        if not by_ids:
            # Their tokens may be cut otherwise than the suffix's.
            self.pop("logprobs", None)


def line_of(line: dict[str, Any], where: str) -> dict[str, Any]:
    """The line itself, or what it says where it is an inference program's output.

    Raises:
        FailedRequestError: Its request failed.
        MemindexError: It lacks what is needed.
    """
    if "continuation" in line:
        return line
    if "outputs" in line:
        return _of_vllm(line, where)
    if "custom_id" in line:
        return _of_batch(line, where)
    if "choices" in line:
        return _of_completion(line, line, where, None)
    if line.get("error") and "prefix" not in line and "sequence_id" not in line:
        raise FailedRequestError(f"{where}: the request failed: {_message(line['error'])}; {_REDO}")
    return line


def lacking(where: str, needed: str, found: Any) -> MemindexError:
    """A line that lacks something: what, and which keys it has."""
    if not isinstance(found, dict):
        return MemindexError(f"{where}: needs {needed}; found {shown(found)}")
    keys = [key if is_unicode(key) else ascii(key) for key in found]
    listed = ", ".join(keys[:_LISTED]) + (", …" if len(keys) > _LISTED else "") if keys else "none"
    return MemindexError(f"{where}: needs {needed}; found keys {' '.join(listed.split())}")


_REDO = "repeat it, remove the line, or pass --skip-failed"


def _of_vllm(line: dict[str, Any], where: str) -> Answer:
    output, several = _first(line["outputs"], where, "outputs")
    if line.get("finished") is False:
        raise FailedRequestError(f"{where}: the request is not finished; {_REDO}")
    number, chosen = _number(line.get("request_id"))
    return _answer(line, line, output, where, number if chosen else None, several)


def _of_batch(line: dict[str, Any], where: str) -> Answer:
    if "body" in line and "response" not in line:
        raise MemindexError(f"{where}: a request of a batch, not its result: give the batch's output file")
    response = line.get("response")
    if error := line.get("error"):
        raise FailedRequestError(f"{where}: the request {shown(line['custom_id'])} failed: {_message(error)}; {_REDO}")
    if response is None and "response" in line:
        raise FailedRequestError(f"{where}: the request {shown(line['custom_id'])} has no response; {_REDO}")
    if not isinstance(response, dict):
        raise lacking(where, "response", line if "response" not in line else response)
    status, body = response.get("status_code", 200), response.get("body")
    if not isinstance(status, int) or not 200 <= status < 300:
        said = f"status {shown(status)}: {_message(body)}"
        raise FailedRequestError(f"{where}: the request {shown(line['custom_id'])} failed with {said}; {_REDO}")
    if not isinstance(body, dict) or "choices" not in body:
        raise lacking(where, "response.body with choices", body)
    return _of_completion(body, line, where, line["custom_id"])


def _of_completion(body: dict[str, Any], line: dict[str, Any], where: str, custom_id: Any) -> Answer:
    choice, several = _first(body["choices"], where, "choices")
    number, _ = _number(custom_id)
    return _answer(body, line, choice, where, number, several)


def _answer(
    body: dict[str, Any],
    line: dict[str, Any],
    output: dict[str, Any],
    where: str,
    number: int | None,
    several: bool,
) -> Answer:
    """The answer in `output`, a part of `body`, which is `line` or a part of it."""
    if output.get("finish_reason") in _FAILED:
        raise FailedRequestError(f"{where}: the request ended with finish_reason {output['finish_reason']}; {_REDO}")
    made = Answer({name: body[name] for name in _ADDED if name in body} | {n: line[n] for n in _ADDED if n in line})
    made.text, made.ids, made.several = _text(output, where), _ids(output), several
    if made.text is None and made.ids is None:
        message = output.get("message")
        raise lacking(where, "text, message.content or token_ids", message if isinstance(message, dict) else output)
    if made.ids is not None and (logprobs := _logprobs(output.get("logprobs"), made.ids)) is not None:
        made["logprobs"] = logprobs
    made.prompt = _prompt(body, output, number)
    made.take(ids=True)
    if "sequence_id" in made:
        made.prompt = Prompt(made.prompt.ids, made.prompt.text, made["sequence_id"])
    elif "suffix" in made:
        made["prefix"] = made.prompt.ids if isinstance(made["suffix"], list) and made.prompt.ids else made.prompt.text
        if made["prefix"] is None:
            raise lacking(where, "prompt or prompt_token_ids beside suffix", line)
        made.take(ids=isinstance(made["prefix"], list))
    else:
        _check_named(made.prompt, line, where)
        made["sequence_id"] = None
    return made


def _check_named(prompt: Prompt, line: dict[str, Any], where: str) -> None:
    """Refuse what does not say which sequence it continues."""
    if prompt.ids is not None or prompt.text is not None or prompt.number is not None:
        return
    if "custom_id" in line:
        raise MemindexError(
            f'{where}: needs a custom_id that is a sequence_id of memindex export, as "12" or "sequence-12"; '
            f"it is {shown(line['custom_id'])}"
        )
    raise lacking(where, "sequence_id, custom_id, prompt or prompt_token_ids", line)


def _number(name: Any) -> tuple[int | None, bool]:
    """The sequence_id that an id names, and whether it says that it is one."""
    if type(name) is int and name >= 0:
        return name, False
    match = _NAME.fullmatch(name) if isinstance(name, str) and name.isascii() else None
    return (int(match["number"]), match["word"] is not None) if match else (None, False)


def _first(outputs: Any, where: str, name: str) -> tuple[dict[str, Any], bool]:
    """The output of the lowest index, and whether there are others."""
    if not isinstance(outputs, list) or not outputs or not all(isinstance(output, dict) for output in outputs):
        raise lacking(where, f"{name} as a list of objects", outputs)
    indexes = [output.get("index", place) for place, output in enumerate(outputs)]
    if not all(type(index) is int for index in indexes):
        raise MemindexError(f"{where}: an index in {name} is not a whole number")
    return outputs[indexes.index(min(indexes))], len(outputs) > 1


def _prompt(body: dict[str, Any], output: dict[str, Any], number: int | None) -> Prompt:
    ids, text = body.get("prompt_token_ids") or output.get("prompt_token_ids"), body.get("prompt")
    if text and are_ids(text):
        ids, text = text, None
    known = list(ids) if ids and are_ids(ids) else None
    return Prompt(known, text if isinstance(text, str) and is_unicode(text) else None, number)


def _text(output: dict[str, Any], where: str) -> str | None:
    message = output.get("message")
    text = output.get("text")
    if text is None and isinstance(message, dict):
        text = message.get("content")
    if text is not None and not isinstance(text, str):
        raise MemindexError(f"{where}: the generated text must be text, it is {shown(text)}")
    if text is not None and not is_unicode(text):
        raise MemindexError(f"{where}: the generated text holds half of a surrogate pair, which is not text")
    return text


def _ids(output: dict[str, Any]) -> list[int] | None:
    ids: Any = output.get("token_ids")
    if are_ids(ids) and (ids or not output.get("text")):
        return list(ids)
    logprobs = output.get("logprobs")
    if not isinstance(logprobs, dict):
        return None
    tokens = logprobs.get("tokens")
    if tokens is None and isinstance(logprobs.get("content"), list):
        tokens = [entry.get("token") if isinstance(entry, dict) else None for entry in logprobs["content"]]
    if not isinstance(tokens, list) or not tokens:
        return None
    found = [_TOKEN.fullmatch(token) if isinstance(token, str) else None for token in tokens]
    return [int(match[1]) for match in found if match] if all(found) else None


def _logprobs(given: Any, ids: list[int]) -> list[float] | None:
    """The log-probability of each generated token; None where they are not all there."""
    if isinstance(given, dict):
        given = given.get("token_logprobs") or given.get("content")
    if not isinstance(given, list) or len(given) != len(ids):
        return None
    values = [_logprob(entry, token) for entry, token in zip(given, ids, strict=True)]
    return [float(value) for value in values if value is not None] if None not in values else None


def _logprob(entry: Any, token: int) -> float | None:
    """That of a token: a number, an object with logprob, or one of the alternatives of a position, by id."""
    if isinstance(entry, dict) and "logprob" not in entry:
        entry = entry.get(str(token))
    if isinstance(entry, dict):
        entry = entry.get("logprob")
    return entry if isinstance(entry, int | float) and not isinstance(entry, bool) else None


def _message(error: Any) -> str:
    """What an error object says, on one line."""
    while isinstance(error, dict) and (inner := next(filter(None, map(error.get, ("error", "message", "code"))), None)):
        error = inner
    text = error if isinstance(error, str) else shown(error)
    text = " ".join(text.split())
    text = text if is_unicode(text) else ascii(text)
    return text if len(text) <= 200 else text[:200] + "…"
