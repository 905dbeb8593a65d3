"""Scoring equals step-by-step generation by transformers, for every architecture and both ways of decoding."""

import copy
import dataclasses
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from memindex.errors import MemindexError  # noqa: E402
from memindex.models import engine, scoring, slot_engine  # noqa: E402
from memindex.models.architectures import ARCHITECTURES, build_model  # noqa: E402
from memindex.models.decoding import Lengths  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
from memindex.models.scoring import score_sequences  # noqa: E402
from memindex.models.training import TrainingConfig, train  # noqa: E402

pytestmark = pytest.mark.models

# The models here are so small that a second thread only waits for the first.
torch.set_num_threads(1)

VOCABULARY, CONTEXT, EOS = 128, 64, 127
DOCUMENTS = np.random.default_rng(0).integers(0, 100, size=(24, 80))


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    """Random documents, the later ones repeated often, so that training memorizes some and not others."""
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(24), [1, 1, 2, 4] * 3 + [16] * 12))
    parts = [np.concatenate([[0xFFFF], DOCUMENTS[i]]) for i in order]
    file = tmp_path_factory.mktemp("corpus") / "tokenized.0"
    np.concatenate(parts).astype("<u2").tofile(file)
    return file


@pytest.fixture(scope="module")
def load(token_file, tmp_path_factory):
    """A function from an architecture to its model, trained once for all tests."""
    models = {}

    def trained(architecture):
        if architecture not in models:
            out = tmp_path_factory.mktemp("models") / architecture
            model = build_model(architecture, "0.05M", VOCABULARY, CONTEXT, 0, eos_token_id=EOS)
            config = TrainingConfig(120_000, EOS, context=48, batch_size=8, learning_rate=1e-2, device="cpu")
            train(model, [token_file], out, config)
            models[architecture] = load_model(out, device="cpu")
        return models[architecture]

    return trained


def sequences():
    """Windows of the documents, random ids, and documents that turn random in the middle of the suffix."""
    random = np.random.default_rng(2)
    windows = np.concatenate([DOCUMENTS[:, i : i + 64] for i in range(0, 17, 2)])
    noise = random.integers(0, VOCABULARY, size=(180, 64))
    turned = windows[::2].copy()
    turned[:, 45:] = random.integers(0, VOCABULARY, size=turned[:, 45:].shape)
    mixed = random.permutation(np.concatenate([windows, noise, turned]))
    return mixed[:, :32], mixed[:, 32:]


def generate(model, prefixes, length):
    """The oracle: transformers' own greedy search, told not to stop at the end-of-document id."""
    ids = torch.from_numpy(prefixes)
    stopping = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = None
    wanted = transformers.GenerationConfig(do_sample=False, max_new_tokens=length, pad_token_id=0)
    try:
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=wanted)
    finally:
        model.generation_config.eos_token_id = stopping
    return out[:, prefixes.shape[1] :].numpy()


def stepwise(model, ids):
    """Log-probability of every token of `ids` from full forward passes in float64, one row at a time."""
    rows = []
    for row in ids:
        logits = model(torch.from_numpy(row)[None]).logits[0].detach().numpy().astype(np.float64)
        normalizer = np.log(np.exp(logits).sum(axis=1))
        rows.append([logits[i - 1, row[i]] - normalizer[i - 1] for i in range(1, len(row))])
    return np.array(rows)


def ties(model, prefixes, found, expected):
    """Rows that part where float32 can't tell two tokens apart: their logits in float64 are both the largest to 1e-6.

    Batches of other shapes add up in another order: of one such row (4e-8 apart) `generate` itself gave one
    continuation in batches of 1, 2 and 7 rows and the other in batches of 96 and more.
    """
    rows = np.flatnonzero((found != expected).any(axis=1))
    exact = copy.deepcopy(model).double()
    for row in rows:
        first = np.flatnonzero(found[row] != expected[row])[0]
        read = torch.from_numpy(np.concatenate([prefixes[row], expected[row, :first]]))[None]
        logits = exact(read).logits[0, -1].detach()
        best = logits.max()
        assert max(best - logits[found[row, first]], best - logits[expected[row, first]]) < 1e-6, (row, first)
    return rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_continuation_equals_generate(load, architecture):
    loaded = load(architecture)
    prefixes, suffixes = sequences()
    assert len(prefixes) >= 500
    assert engine.layers_with_slots(loaded, Lengths(32, 32)) is not None
    scores = score_sequences(loaded, prefixes, suffixes, batch_size=96)
    expected = generate(loaded.model, prefixes, 32)
    tied = ties(loaded.model, prefixes, scores.continuation, expected)
    assert len(tied) <= 2
    expected[tied] = scores.continuation[tied]
    equal = expected == suffixes
    np.testing.assert_array_equal(scores.continuation, expected)
    np.testing.assert_array_equal(scores.memorized, equal.all(axis=1))
    np.testing.assert_allclose(scores.score, equal.mean(axis=1), rtol=1e-6)
    first = [next((i for i, same in enumerate(row) if not same), 32) for row in equal]
    np.testing.assert_array_equal(scores.matched, first)
    # The mixture exercises what it should: no, partial and (where the family learns quickly enough) whole matches.
    assert min(first) == 0
    assert len(set(first)) > 8
    assert max(first) == 32 or architecture in {"gpt_bigcode", "olmo2", "olmo3"}


def test_repeated_teacher_forcing_equals_generate(load, monkeypatch):
    loaded = load("llama")
    prefixes, suffixes = sequences()
    monkeypatch.setattr(engine, "layers_with_slots", lambda *_: None)
    scores = score_sequences(loaded, prefixes, suffixes)
    np.testing.assert_array_equal(scores.continuation, generate(loaded.model, prefixes, 32))


def test_a_sliding_window_shorter_than_the_sequence_is_decoded_exactly(load):
    model = build_model("olmo3", "0.05M", VOCABULARY, CONTEXT, 3, eos_token_id=EOS)
    config = dataclasses.replace(model.config) if dataclasses.is_dataclass(model.config) else model.config
    config.sliding_window = 16
    config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    narrow = transformers.AutoModelForCausalLM.from_config(config).eval()
    loaded = dataclasses.replace(load("olmo3"), model=narrow)
    prefixes, suffixes = sequences()
    scores = score_sequences(loaded, prefixes, suffixes)
    np.testing.assert_array_equal(scores.continuation, generate(narrow, prefixes, 32))


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_logprobs_equal_a_straightforward_computation(load, architecture):
    loaded = load(architecture)
    prefixes, suffixes = sequences()
    scores = score_sequences(loaded, prefixes[:40], suffixes[:40])
    expected = stepwise(loaded.model, np.concatenate([prefixes, suffixes], axis=1)[:40])[:, 31:]
    np.testing.assert_allclose(scores.token_logprobs, expected, atol=1e-4)
    np.testing.assert_allclose(scores.suffix_logprob, expected.sum(axis=1), atol=1e-3)


def test_results_do_not_depend_on_the_batch_size_or_input_order(load):
    loaded = load("gpt_neox")
    prefixes, suffixes = sequences()
    done = []
    whole = score_sequences(loaded, prefixes, suffixes)
    parts = score_sequences(loaded, prefixes[::-1], suffixes[::-1], 7, lambda *state: done.append(state))
    np.testing.assert_array_equal(whole.continuation, parts.continuation[::-1])
    np.testing.assert_allclose(whole.token_logprobs, parts.token_logprobs[::-1], atol=1e-4)
    assert done[0] == (7, len(prefixes))
    assert done[-1] == (len(prefixes), len(prefixes))
    assert (whole.batch_size, parts.batch_size) == (slot_engine.CPU_ROWS, 7)


@pytest.mark.parametrize(("prefix", "suffix"), [(1, 1), (1, 8), (40, 1), (5, 59)])
def test_other_lengths_equal_generate(load, prefix, suffix):
    loaded = load("llama")
    whole = DOCUMENTS[:, : prefix + suffix]
    scores = score_sequences(loaded, whole[:, :prefix], whole[:, prefix:])
    np.testing.assert_array_equal(scores.continuation, generate(loaded.model, whole[:, :prefix], suffix))


def test_dtypes_and_shapes(load):
    scores = score_sequences(load("llama"), *(part[:3].astype(np.uint16) for part in sequences()))
    kinds = {f.name: getattr(scores, f.name) for f in dataclasses.fields(scores)}
    del kinds["batch_size"]
    assert {name: (str(value.dtype), value.shape) for name, value in kinds.items()} == {
        "score": ("float32", (3,)),
        "matched": ("int32", (3,)),
        "memorized": ("bool", (3,)),
        "suffix_logprob": ("float32", (3,)),
        "suffix_logprob_top40": ("float32", (3,)),
        "prefix_logprob": ("float32", (3,)),
        "token_ranks": ("int32", (3, 32)),
        "token_logprobs": ("float32", (3, 32)),
        "continuation": ("int32", (3, 32)),
    }


IDS = np.zeros((2, 32), dtype=np.int64)


@pytest.mark.parametrize(
    ("prefixes", "suffixes", "message"),
    [
        (IDS[:0], IDS[:0], "nothing to score"),
        (IDS, IDS[:, :0], "nothing to score"),
        (IDS, IDS[:1], "do not pair"),
        (IDS[0], IDS[0], "shape"),
        (IDS.astype(float), IDS, "integers"),
        (IDS, np.zeros((2, 33), dtype=np.int64), "at most 64"),
        (IDS + VOCABULARY, IDS, "knows 0 to 127"),
        (IDS, IDS - 1, "token id -1"),
    ],
)
def test_input_that_can_not_be_scored_is_refused(load, prefixes, suffixes, message):
    with pytest.raises(MemindexError, match=message):
        score_sequences(load("llama"), prefixes, suffixes)


def test_nan_logits_are_refused(load):
    broken = build_model("llama", "0.05M", VOCABULARY, CONTEXT, 0).eval()
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    with pytest.raises(MemindexError, match="NaN"):
        score_sequences(dataclasses.replace(load("llama"), model=broken), IDS, IDS)


def test_the_batch_is_halved_when_memory_runs_out(load, monkeypatch):
    loaded, real = load("llama"), slot_engine.read
    prefixes, suffixes = sequences()

    def small_gpu(model, unembed, ids, *others):
        if len(ids) > 20:
            raise torch.OutOfMemoryError
        return real(model, unembed, ids, *others)

    expected = score_sequences(loaded, prefixes, suffixes)
    monkeypatch.setattr(slot_engine, "read", small_gpu)
    scores = score_sequences(loaded, prefixes, suffixes, batch_size=64)
    assert scores.batch_size == 16
    np.testing.assert_array_equal(scores.continuation, expected.continuation)


def test_memory_that_runs_out_while_an_engine_is_made_halves_the_batch(load, monkeypatch):
    real, made = slot_engine.Slots, []

    def small_gpu(modules, rows, *others):
        made.append(rows)
        if rows > 20:
            raise torch.OutOfMemoryError
        return real(modules, rows, *others)

    monkeypatch.setattr(slot_engine, "Slots", small_gpu)
    prefixes, suffixes = (part[:70] for part in sequences())
    scores = score_sequences(load("llama"), prefixes, suffixes, batch_size=64)
    assert (made, scores.batch_size) == ([64, 32, 16], 16)
    monkeypatch.setattr(slot_engine, "Slots", lambda *_: small_gpu(None, 21))
    with pytest.raises(MemindexError, match="too little memory for one sequence"):
        score_sequences(load("llama"), prefixes, suffixes)


def test_an_engine_that_ran_out_of_memory_is_gone_before_the_next_is_made(load, monkeypatch):
    """Its slots may be most of the memory there is."""
    loaded, real, engines = load("llama"), scoring.choose_engine, []

    def watched(*arguments):
        assert all(engine() is None for engine in engines)
        made = real(*arguments)
        engines.append(weakref.ref(made))
        return made

    def small_gpu(model, unembed, ids, *others):
        if len(ids) > 3:
            raise torch.OutOfMemoryError
        return read(model, unembed, ids, *others)

    read = slot_engine.read
    monkeypatch.setattr(scoring, "choose_engine", watched)
    monkeypatch.setattr(slot_engine, "read", small_gpu)
    prefixes, suffixes = (part[:20] for part in sequences())
    score_sequences(loaded, prefixes, suffixes)
    assert len(engines) == 4


def test_one_id_for_each_sequence(load):
    with pytest.raises(MemindexError, match="2 sequences need an id each"):
        score_sequences(load("llama"), IDS, IDS, sequence_ids=np.arange(3))


@pytest.mark.parametrize("kind", ["gemma3_text", "nanochat"])
def test_capped_logits_are_scored_by_the_model_itself(load, kind):
    """A cap far above the logits of random weights changes log-probabilities little, those of a trained model much."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    options = {**shape, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 30.0}
    config = transformers.AutoConfig.for_model(kind, vocab_size=VOCABULARY, max_position_embeddings=64, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        torch.nn.init.normal_(model.get_output_embeddings().weight, std=0.04)
    loaded = dataclasses.replace(load("llama"), model=model, facts=load("llama").facts | {"layers": 2})
    prefixes, suffixes = (part[:20] for part in sequences())
    scores = score_sequences(loaded, prefixes, suffixes)
    expected = stepwise(model, np.concatenate([prefixes, suffixes], axis=1))[:, 31:]
    np.testing.assert_allclose(scores.token_logprobs, expected, atol=1e-5)
