"""Compression equals generation by transformers after every truncated prefix, and known answers of planted text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from memindex.errors import MemindexError  # noqa: E402
from memindex.models.architectures import ARCHITECTURES, build_model  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
from memindex.models.training import TrainingConfig, train  # noqa: E402
from memindex.probes import batches, compression  # noqa: E402
from memindex.probes.compression import compress  # noqa: E402

pytestmark = pytest.mark.models

torch.set_num_threads(1)

VOCABULARY, EOS, PREFIX, SUFFIX = 64, 63, 8, 8
DOCUMENTS = np.random.default_rng(0).integers(0, 60, size=(10, 32))


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A function from an architecture to a model of it that knows most of the documents."""
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(10), [1, 1, 2, 4, 4, 8, 8, 16, 16, 16]))
    file = tmp_path_factory.mktemp("corpus") / "tokenized.0"
    np.concatenate([np.concatenate([[0xFFFF], DOCUMENTS[i]]) for i in order]).astype("<u2").tofile(file)
    models = {}

    def trained(architecture):
        if architecture not in models:
            out = tmp_path_factory.mktemp("models") / architecture
            model = build_model(architecture, "0.02M", VOCABULARY, 32, 0, eos_token_id=EOS)
            config = TrainingConfig(30_000, EOS, context=32, batch_size=8, learning_rate=1e-2, device="cpu")
            train(model, [file], out, config)
            models[architecture] = load_model(out, device="cpu")
        return models[architecture]

    return trained


def windows():
    """Every window of the documents, prefix and suffix."""
    rows = np.concatenate([DOCUMENTS[:, i : i + PREFIX + SUFFIX] for i in range(32 - PREFIX - SUFFIX + 1)])
    return rows[:, :PREFIX], rows[:, PREFIX:]


def generated(model, prefixes, suffixes):
    """The oracle: after each truncated prefix, whether transformers' greedy search gives the suffix."""
    stopping, model.generation_config.eos_token_id = model.generation_config.eos_token_id, None
    settings = transformers.GenerationConfig(do_sample=False, max_new_tokens=SUFFIX, pad_token_id=0)
    works = []
    for length in range(1, PREFIX + 1):
        ids = torch.from_numpy(prefixes[:, -length:].copy())
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        works.append((out[:, length:].numpy() == suffixes).all(axis=1))
    model.generation_config.eos_token_id = stopping
    return np.stack(works, axis=1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_length_equals_generation(load, architecture):
    loaded = load(architecture)
    prefixes, suffixes = windows()
    expected = generated(loaded.model, prefixes, suffixes)
    found = compress(loaded, prefixes, suffixes, batch_size=50)
    np.testing.assert_array_equal(found.works, expected)
    # The oracle has what makes lengths differ: some that work, some that don't.
    assert 0.05 < expected.mean() < 0.95
    assert_summary(found, expected)


def assert_summary(found, works):
    """The numbers of each row, by their definitions."""
    prefix = works.shape[1]
    for row, works_at in enumerate(works):
        good = [length for length in range(1, prefix + 1) if works_at[length - 1]]
        assert found.needed[row] == min(good, default=0)
        steady = [k for k in range(1, prefix + 1) if all(works_at[length - 1] for length in range(k, prefix + 1))]
        assert found.needed_monotone[row] == min(steady, default=0)
        above = range(found.needed[row] + 1, prefix + 1) if good else []
        assert found.failures[row] == sum(length not in good for length in above)


def test_numbers_of_every_pattern_of_lengths():
    """All 256 patterns of eight lengths, most of them not monotone."""
    works = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    found = compression._summary(works, 1)
    assert_summary(found, works)
    assert (found.failures > 0).sum() == 256 - 9


def test_a_planted_repeat_needs_one_token_more_than_it_shares(tmp_path):
    """Two texts with four tokens in common: up to four of them say nothing about which text it is, the fifth does."""
    shared = [10, 11, 12, 13]
    texts = [[*range(20, 24), 5, *shared, *range(30, 34)], [*range(40, 44), 6, *shared, *range(50, 54)]]
    random = np.random.default_rng(0)
    parts = [np.concatenate([[0xFFFF], random.integers(0, 4, 3), texts[i % 2]]) for i in random.permutation(600)]
    file = tmp_path / "tokenized.0"
    np.concatenate(parts).astype("<u2").tofile(file)
    model = build_model("llama", "0.02M", VOCABULARY, 32, 0, eos_token_id=EOS)
    settings = TrainingConfig(60_000, EOS, context=16, batch_size=16, learning_rate=1e-2, device="cpu")
    train(model, [file], tmp_path / "model", settings)
    rows = np.array(texts)
    found = compress(load_model(tmp_path / "model", device="cpu"), rows[:, 1:9], rows[:, 9:])
    assert found.works[:, 4:].all()
    # After the same tokens one text at most can come.
    assert (found.works[:, :4].sum(axis=0) <= 1).all()
    assert found.needed_monotone.max() == 5


class Automaton(torch.nn.Module):
    """Tells the next token by a rule: after 1, 2, … comes one more, if a 0 stands within `reach` and no 9 in sight."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, reach):
        super().__init__()
        self.reach, self.base_model = reach, self

    def get_output_embeddings(self):
        return torch.nn.Identity()

    def forward(self, input_ids, use_cache):
        place = torch.arange(input_ids.shape[1])
        back = place[:, None] - place
        near = ((input_ids[:, None] == 0) & (back >= 0) & (back < self.reach)).any(dim=-1)
        spoilt = ((input_ids[:, None] == 9) & (back >= 0)).any(dim=-1)
        following = torch.where(near & ~spoilt, input_ids + 1, 0)
        logits = torch.nn.functional.one_hot(following, 64).float()
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=logits)


def test_known_answers_where_more_context_hurts(load):
    loaded = dataclasses.replace(load("llama"), model=Automaton(reach=20))
    prefixes = np.array(
        [[5, 5, 0, 5, 5, 1], [5, 9, 0, 5, 5, 1], [5, 5, 5, 5, 0, 1], [9, 0, 9, 5, 5, 1], [0, 9, 0, 0, 0, 1]]
    )
    suffixes = np.tile([2, 3, 4], (len(prefixes), 1))
    found = compress(loaded, prefixes, suffixes)
    assert found.needed.tolist() == [4, 4, 2, 0, 2]
    assert found.needed_monotone.tolist() == [4, 0, 2, 0, 0]
    assert found.failures.tolist() == [0, 2, 0, 0, 2]


def test_batches_don_t_matter_and_progress_is_told(load):
    loaded = load("llama")
    prefixes, suffixes = windows()
    told = []
    whole = compress(loaded, prefixes[:70], suffixes[:70], progress=lambda *done: told.append(done))
    small = compress(loaded, prefixes[:70], suffixes[:70], batch_size=32, progress=lambda *done: told.append(done))
    np.testing.assert_array_equal(whole.works, small.works)
    assert told == [(70, 70), (32, 70), (64, 70), (70, 70)]
    assert (whole.batch_size, small.batch_size) == (70, 32)


def test_batches_shrink_when_memory_runs_out():
    done = []

    def step(rows):
        if rows.stop - rows.start > 3:
            raise torch.OutOfMemoryError
        done.append((rows.start, rows.stop))

    assert batches.in_batches(8, 16, step) == 2
    assert done == [(0, 2), (2, 4), (4, 6), (6, 8)]
    with pytest.raises(MemindexError, match="too little memory for one sequence"):
        batches.in_batches(1, 1, lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()))


def test_what_can_t_be_read_is_refused(load):
    loaded = load("llama")
    ids = np.zeros((2, 8), dtype=np.int64)
    for prefixes, suffixes, message in (
        (ids, ids[:1], "no two matrices of one length"),
        (ids[:, :0], ids, "at least one token each"),
        (ids + VOCABULARY, ids, "knows token ids 0 to 63"),
        (np.zeros((2, 40), dtype=np.int64), ids, "reads at most 32"),
    ):
        with pytest.raises(MemindexError, match=message):
            compress(loaded, prefixes, suffixes)
    assert len(compress(loaded, ids[:0], ids[:0]).needed) == 0


def test_nan_is_refused(load):
    loaded = load("llama")
    weight = loaded.model.get_output_embeddings().weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[3] = float("nan")
        with pytest.raises(MemindexError, match="NaN"):
            compress(loaded, *(rows[:2] for rows in windows()))
    finally:
        with torch.no_grad():
            weight.copy_(before)
