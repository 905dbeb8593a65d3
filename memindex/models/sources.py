"""Where a model comes from: a folder, or the model hub; its files, one at a time, so that cheap checks come first.

No torch here, and transformers only where a tokenizer has to be converted.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from memindex.corpus.tokenizer import HUB_NAME, HUB_TIMEOUT, Tokenizer
from memindex.errors import MemindexError
from memindex.extras import require
from memindex.mistaken_paths import looks_like_path
from memindex.models.membership import similar

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"

#: The file that `memindex train` leaves beside a model's weights.
RECORD = "training.json"

#: What configurations call the longest input, by how often they do.
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")

#: Tokenizers in other forms; transformers can convert some of them.
OTHER_TOKENIZERS = ("tokenizer.model", "vocab.json", "spiece.model")


def as_folder(source: str | Path) -> Path | None:
    """The folder `source` names, or None for a hub name.

    Raises:
        MemindexError: It is neither, or a folder without config.json.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise MemindexError(f"{source} has no config.json; name a folder saved by transformers or memindex train")
        return folder
    is_path = looks_like_path(str(source))
    if HUB_NAME.fullmatch(str(source)) and not is_path:
        return None
    meant = similar(str(source))
    raise MemindexError(
        f"there is no model folder {folder.absolute() if is_path else source}"
        + ("" if is_path else ", and a name on the hub is org/name")
        + (f"; did you mean {meant}?" if meant else "")
    )


def model_file(source: str | Path, name: str, revision: str | None = None) -> Path | None:
    """One file of a model, from its folder or the hub's cache, downloaded if need be; None when it has no such file.

    Raises:
        MemindexError: There is no such model or revision, it is gated, or the hub can't be reached.
    """
    folder = as_folder(source)
    if folder is not None:
        return folder / name if (folder / name).is_file() else None
    return _from_hub(str(source), name, revision)


def _from_hub(source: str, name: str, revision: str | None) -> Path | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        cached = try_to_load_from_cache(source, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        # The download repeats its look-up for half a minute where there is no network; this one asks once.
        get_hf_file_metadata(hf_hub_url(source, name, revision=revision), timeout=HUB_TIMEOUT)
        return Path(hf_hub_download(source, name, revision=revision))
    except LocalEntryNotFoundError as error:
        raise MemindexError(hub_problem(source, revision, error)) from error
    except EntryNotFoundError:
        return None
    except Exception as error:
        raise MemindexError(hub_problem(source, revision, error)) from error


def hub_problem(source: str, revision: str | None, error: BaseException) -> str:
    """One line that says why a model can't be had from the hub, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{source} is gated: accept its terms at https://huggingface.co/{source}, "
            "then log in with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{source} has no revision {revision!r}; `memindex models` tells how its family names them"
    if isinstance(error, errors.RepositoryNotFoundError):
        meant = similar(source)
        hint = f"did you mean {meant}?" if meant and meant != source else "check the name; private ones need HF_TOKEN"
        return f"there is no model {source} on the hub: {hint}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{source} is not in the local cache and HF_HUB_OFFLINE is set: unset it, or name a folder"
    if isinstance(error, errors.HfHubHTTPError):
        return f"the model hub refuses {source}: {first_line(error)}"
    return (
        f"the model hub can't be reached for {source} ({first_line(error)}): "
        "check the network or HF_ENDPOINT, or name a folder with the model"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its name."""
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__


def read_config(source: str | Path, revision: str | None = None) -> dict[str, Any]:
    """The contents of a model's config.json.

    Raises:
        MemindexError: As `model_file`; or it has none, or that is no JSON object.
    """
    file = model_file(source, CONFIG, revision)
    if file is None:
        raise MemindexError(f"{source} has no config.json: it is no transformers model")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MemindexError(f"can't load the model {source}: {CONFIG}: {first_line(error)}") from None
    if not isinstance(config, dict):
        raise MemindexError(f"can't load the model {source}: {CONFIG} is no JSON object")
    return config


def vocabulary_of(config: dict[str, Any]) -> int | None:
    """Rows of a model's output embedding by its config.json, where that says so."""
    nested = config.get("text_config")
    size = config.get("vocab_size", nested.get("vocab_size") if isinstance(nested, dict) else None)
    return size if isinstance(size, int) and size > 0 else None


def read_record(source: str | Path) -> dict[str, Any] | None:
    """The record that `memindex train` left in a model's folder; None without one.

    Raises:
        MemindexError: The file is something else.
    """
    file = Path(source).expanduser() / RECORD
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        int(record["trained_tokens"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise MemindexError(f"{file} is not a training record of memindex; remove or replace it") from None
    found: dict[str, Any] = record
    return found


def read_tokenizer(source: str | Path, revision: str | None = None) -> Tokenizer | None:
    """The tokenizer that comes with a model, or None when none does.

    A model that `memindex train` made on an index of bytes has the byte tokenizer. Tokenizers in forms older than
    tokenizer.json are converted by transformers.

    Raises:
        MemindexError: As `model_file`; or the tokenizer can't be read.
    """
    file = model_file(source, TOKENIZER, revision)
    if file is not None:
        from memindex.corpus.tokenizer import load_tokenizer

        loaded = load_tokenizer(file)
        loaded.name = str(source)
        return loaded
    record = read_record(source) or {}
    if record.get("tokenizer") == "bytes":
        return Tokenizer("bytes", None)
    other = next((name for name in OTHER_TOKENIZERS if model_file(source, name, revision) is not None), None)
    return None if other is None else _converted(source, revision, other)


def _converted(source: str | Path, revision: str | None, form: str) -> Tokenizer:
    require("models")
    from transformers import AutoTokenizer

    try:
        options = {} if revision is None else {"revision": revision}
        fast = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, **options)
        return Tokenizer(str(source), fast.backend_tokenizer.to_str().encode())
    except Exception as error:
        raise MemindexError(
            f"the tokenizer of {source} is a {form}, which transformers can't convert here ({first_line(error)}): "
            "put a tokenizer.json beside the weights"
        ) from None
