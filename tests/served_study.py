"""A small index of English text with domains and duplicates, and a study of it with made-up runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tokenizers
from synthetic_study import model_row, run_row
from tokenizers import decoders, models, pre_tokenizers, trainers

from memindex.corpus.documents import ReadOptions
from memindex.index import build_index
from memindex.study.config import FILE, load_study
from memindex.study.running import run_study
from memindex.tables.store import TableStore

LICENCE = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software, to use it without "
    "restriction, and to permit persons to whom it is given to do so. "
)
SENTENCES = (
    "The river rose in the night and took the old bridge with it.",
    "Nobody in the village remembered who had planted the walnut trees.",
    "She counted the letters twice and put them back into the drawer.",
    "A suffix array lists the places of all suffixes of a text in sorted order.",
    "The committee adjourned without a vote on the second amendment.",
    "For each item in the list, append the result and return the total.",
    "Water boils at a lower temperature where the air is thin.",
    "The defendant shall pay the costs of the proceedings in full.",
    "He wrote café, naïve and Straße on the wall, and 東京 below them.",
    "Every model was scored on the same sequences, one after the other.",
    "The lighthouse keeper kept two clocks, and both of them were wrong.",
    "If the file does not exist, raise an error and say where to look.",
    "In the spring the glacier gives back what it took in the autumn.",
    "The plaintiff may appeal within thirty days of this decision.",
)
DOMAINS = ("Books", "Code", "Law", "Web")

#: model_id, non-embedding parameters, log-odds of knowing a sequence that occurs once.
MODELS = (("tiny", 790_000, -4.0), ("small", 4_700_000, -2.5), ("large", 25_000_000, -1.0))


def make_served(folder: Path) -> tuple[Path, Path]:
    """Write the index and the study; return their directories."""
    source = _write_corpus(folder / "corpus")
    _train_tokenizer(folder / "tokenizer.json")
    options = ReadOptions(domain_field="domain")
    build_index([source], folder / "library", tokenizer=folder / "tokenizer.json", options=options)
    study = folder / "reading"
    study.mkdir()
    lines = ['name = "What three readers kept"', 'index = "../library"', "[sequences]"]
    lines += ["prefix = 12", "suffix = 12", "uniform = 120", "per_bucket = 12", "heldout = 0"]
    (study / FILE).write_text("\n".join(lines), encoding="utf-8")
    for step in ("sequences", "frequencies"):
        run_study(load_study(study), only=step)
    for place, (name, size, strength) in enumerate(MODELS):
        _write_run(TableStore(study / "tables"), name, size, strength, place)
    return folder / "library", study


def _write_corpus(folder: Path) -> Path:
    random = np.random.default_rng(4)
    folder.mkdir(parents=True)
    rows = []
    for number in range(160):
        domain = DOMAINS[number % len(DOMAINS)]
        weights = 1 / (1 + (np.arange(len(SENTENCES)) + 3 * (number % len(DOMAINS))) % len(SENTENCES))
        chosen = random.choice(len(SENTENCES), 9, p=weights / weights.sum())
        text = " ".join(SENTENCES[place] for place in chosen)
        licence = LICENCE if domain == "Code" and number % 3 else ""
        rows.append(json.dumps({"text": f"{licence}{text} Number {number}.", "domain": domain}))
    (folder / "library.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "library.jsonl"


def _train_tokenizer(file: Path) -> None:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([*SENTENCES, LICENCE] * 3, trainer)
    made.save(str(file))


def _write_run(store: TableStore, name: str, size: int, strength: float, place: int) -> None:
    """A model, its run, and continuations that are right up to a place, or as a whole."""
    random = np.random.default_rng(place)
    sequences = store.read("sequences").sort_by("sequence_id").to_pydict()
    counts = np.array(store.read("frequencies").sort_by("sequence_id")["sequence_count"])
    suffix = np.array(sequences["suffix"])
    rows, length = suffix.shape
    known = random.random(rows) < 1 / (1 + np.exp(-strength - 0.8 * np.log2(counts + 0.5)))
    matched = np.where(known, length, random.integers(0, length, rows))
    wrong = np.arange(length) >= matched[:, None]
    continuation = np.where(wrong, np.roll(suffix, 1 + place, axis=0), suffix)
    right = continuation == suffix
    store.write("models", name, model_row(name, "gpt_neox", size))
    protocol = {"prefix_length": [12], "suffix_length": [length]}
    store.write("runs", f"{name}-run", run_row(f"{name}-run", name, rows, place) | protocol)
    logprobs = np.where(right, -0.1, -4.0) * random.random(right.shape)
    store.write(
        "continuations",
        f"{name}-run",
        {
            "run_id": [f"{name}-run"] * rows,
            "sequence_id": sequences["sequence_id"],
            "score": right.mean(axis=1).astype(np.float32),
            "matched": np.where(right.all(axis=1), length, right.argmin(axis=1)),
            "memorized": right.all(axis=1),
            "edit_distance": (~right).sum(axis=1),
            "bleu": right.mean(axis=1).astype(np.float32),
            "suffix_logprob": logprobs.sum(axis=1),
            "suffix_logprob_top40": logprobs.sum(axis=1),
            "prefix_logprob": -random.exponential(20, rows),
            "token_logprobs": logprobs,
            "token_ranks": np.where(right, 0, 7),
            "continuation": continuation,
        },
    )
