"""What scoring tells beside the continuation: ranks, top-40, prefixes, sampling, slots."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from kernel_on_cpu import assert_equal, needs_triton  # noqa: E402

from memindex.errors import MemindexError  # noqa: E402
from memindex.models import engine, scoring, slot_engine  # noqa: E402
from memindex.models.architectures import build_model, count_parameters  # noqa: E402
from memindex.models.loading import LoadedModel  # noqa: E402
from memindex.models.reading import largest  # noqa: E402
from memindex.models.sampling import Decoding, choose  # noqa: E402
from memindex.models.scoring import Scorer, score_sequences  # noqa: E402

pytestmark = pytest.mark.models

torch.set_num_threads(1)

VOCABULARY, CONTEXT = 3000, 48


@pytest.fixture(scope="module")
def loaded():
    model = build_model("gpt_neox", "0.05M", VOCABULARY, CONTEXT, 0).eval()
    with torch.no_grad():
        # Logits far enough apart that probabilities mean something.
        model.get_output_embeddings().weight.mul_(3)
    facts = {"vocabulary": VOCABULARY, "context": CONTEXT, "layers": model.config.num_hidden_layers}
    facts["hidden_size"] = model.config.hidden_size
    assert count_parameters(model)[0] > 0
    return LoadedModel(model, "small", "cpu", "float32", "sdpa", facts)


@pytest.fixture(scope="module")
def sequences(loaded):
    """Likely suffixes and random ones: prefixes (60, 12) and suffixes (60, 10)."""
    random = np.random.default_rng(0)
    prefixes = random.integers(0, VOCABULARY, (60, 12))
    likely = score_sequences(loaded, prefixes, random.integers(0, VOCABULARY, (60, 10))).continuation
    others = random.integers(0, VOCABULARY, (60, 10))
    # Half of the rows have about three unlikely tokens, the others none.
    unlikely = (random.random((60, 10)) < 0.3) & (np.arange(60)[:, None] < 30)
    return prefixes, np.where(unlikely, others, likely)


def logits_of(loaded, prefixes, suffixes):
    """float64 logits before every token after the first."""
    ids = torch.from_numpy(np.concatenate([prefixes, suffixes], axis=1))
    with torch.no_grad():
        return loaded.model(ids[:, :-1]).logits.double().numpy()


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def of_tokens(table, ids):
    return np.take_along_axis(table, ids[..., None], axis=-1)[..., 0]


def test_every_measure_equals_its_definition(loaded, sequences):
    prefixes, suffixes = sequences
    scores = score_sequences(loaded, prefixes, suffixes)
    logits = logits_of(loaded, prefixes, suffixes)
    logprobs = log_softmax(logits)
    np.testing.assert_allclose(scores.prefix_logprob, of_tokens(logprobs[:, :11], prefixes[:, 1:]).sum(1), atol=1e-4)
    np.testing.assert_allclose(scores.token_logprobs, of_tokens(logprobs[:, 11:], suffixes), atol=1e-4)
    np.testing.assert_allclose(scores.suffix_logprob, of_tokens(logprobs[:, 11:], suffixes).sum(1), atol=1e-4)
    true = of_tokens(logits[:, 11:], suffixes)
    ranks = (logits[:, 11:] > true[..., None]).sum(-1)
    # A float32 tie between neighbours may count one more or less.
    assert (np.abs(scores.token_ranks - ranks) <= 1).all()
    assert (scores.token_ranks == ranks).mean() > 0.99
    top = np.sort(logits[:, 11:], axis=-1)[..., -40:]
    expected = np.where(ranks < 40, true - np.log(np.exp(top).sum(-1)), -np.inf).sum(1)
    np.testing.assert_allclose(scores.suffix_logprob_top40, expected, atol=1e-4)
    assert 10 < np.isinf(expected).sum() < 50


def test_a_prefix_of_one_token_has_no_probability(loaded, sequences):
    scores = score_sequences(loaded, sequences[0][:, :1], sequences[1])
    np.testing.assert_array_equal(scores.prefix_logprob, 0)


@pytest.mark.parametrize("vocabulary", [10, 40, 41, 2560, 2624, 3000, 4096, 4133])
def test_the_largest_logits_are_found_by_groups(vocabulary):
    random = torch.Generator().manual_seed(vocabulary)
    # Few different values: ties everywhere.
    logits = torch.randint(0, 500, (50, vocabulary), generator=random).float()
    found = largest(logits).sort(dim=-1).values
    assert torch.equal(found, logits.sort(dim=-1).values[:, -40:])


def test_rows_wait_in_slots_and_move_together(loaded, sequences, monkeypatch):
    """Many small batches in few slots, with done rows among them, give what one batch gives."""
    prefixes, suffixes = sequences
    greedy = score_sequences(loaded, prefixes, suffixes)
    mixed = np.where(np.arange(60)[:, None] % 4 > 0, greedy.continuation, suffixes)
    expected = score_sequences(loaded, prefixes, mixed)
    real, moved = slot_engine.Slots.arrange, []

    def watched(slots, order):
        moved.append(order.tolist())
        real(slots, order)

    monkeypatch.setattr(slot_engine, "_sizes", lambda *_: (4, 12))
    monkeypatch.setattr(slot_engine.Slots, "arrange", watched)
    scores = score_sequences(loaded, prefixes, mixed)
    np.testing.assert_array_equal(scores.continuation, expected.continuation)
    np.testing.assert_allclose(scores.token_logprobs, expected.token_logprobs, atol=1e-5)
    assert 0.5 < scores.memorized.mean() < 0.95
    assert any(order != list(range(len(order))) for order in moved)


@pytest.mark.parametrize(
    ("gigabytes", "expected"), [(120, (1024, 4096)), (60, (1024, 4096)), (8, (544, 545)), (0.02, (1, 1)), (-1, (1, 1))]
)
def test_rows_fit_the_memory(gigabytes, expected):
    """A model of a billion parameters: 8.4 MB of slots per row, 6.3 MB while it is read."""
    kept, used = 64 * 16 * 2 * 2048 * 2, 64 * 2048 * 2 * 24
    size, most = slot_engine.fit(int(gigabytes * 1e9), kept, used, 1, 100_000, None)
    assert (size, most) == expected
    assert size * used + most * kept <= max(gigabytes * 1e9, used + kept)


def test_there_are_no_more_rows_than_there_is_to_do():
    assert slot_engine.fit(10**11, 1000, 1000, 4, 700, None) == (700, 700)
    assert slot_engine.fit(10**11, 1000, 1000, 1, 2500, None) == (1024, 3072)
    assert slot_engine.fit(10**11, 1000, 1000, 1, 2500, 100) == (100, 2500)


def test_a_scorer_gives_the_same_for_every_call(loaded, sequences):
    prefixes, suffixes = sequences
    scorer = Scorer(loaded, 12, 10, batch_size=16)
    first = scorer.score(prefixes, suffixes)
    again = scorer.score(prefixes[:20], suffixes[:20])
    for field in dataclasses.fields(first):
        if field.name != "batch_size":
            np.testing.assert_array_equal(getattr(first, field.name)[:20], getattr(again, field.name))
    scorer.close()
    assert not any(hasattr(module, "slot_keys") for module in loaded.model.modules())
    assert loaded.model.config._attn_implementation == "sdpa"


def test_a_model_that_can_not_be_compiled_is_scored_as_it_is(loaded, sequences, monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    expected = score_sequences(loaded, *sequences)
    real, asked = scoring.choose_engine, []

    class Uncompilable:
        compiled, batch_size = True, 8

        def run(self, *_):
            raise TorchDynamoException("no C compiler\nand a long trace")

        def close(self):
            pass

    def choose(*given):
        asked.append(given[-1])
        return real(*given) if given[-1] is False else Uncompilable()

    monkeypatch.setattr(scoring, "choose_engine", choose)
    scorer = Scorer(loaded, 12, 10)
    with pytest.warns(UserWarning, match="goes on without it: no C compiler$"):
        scores = scorer.score(*sequences)
    np.testing.assert_array_equal(scores.continuation, expected.continuation)
    assert asked == [None, False]
    assert not scorer.compiled


def test_samples_follow_the_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, 0.5]]).repeat(200_000, 1)
    ids, columns = torch.arange(200_000), torch.zeros(200_000, dtype=torch.int64)
    for decoding, kept in ((Decoding(3), 5), (Decoding(3, top_k=2), 2), (Decoding(3, temperature=2.0), 5)):
        drawn, _ = choose(logits, decoding, ids, columns)
        shares = np.bincount(drawn.numpy(), minlength=5) / 200_000
        scaled = np.exp(logits[0].numpy().astype(float) / decoding.temperature)
        scaled[np.argsort(-scaled)[kept:]] = 0
        expected = scaled / scaled.sum()
        # Four standard errors of a share.
        assert (np.abs(shares - expected) <= 4 * np.sqrt(expected * (1 - expected) / 200_000)).all()


def test_draws_of_neighbouring_sequences_and_places_are_independent():
    logits = torch.zeros(100_000, 2)
    ids, columns = torch.arange(100_000), torch.zeros(100_000, dtype=torch.int64)
    drawn = [
        choose(logits, Decoding(seed), ids + shift, columns + place)[0].double()
        for seed, shift, place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    correlations = np.corrcoef(torch.stack(drawn).numpy())
    # Shifted by one sequence, the draws are the same ones, one place further.
    assert torch.equal(drawn[0][1:], drawn[2][:-1])
    assert (np.abs(correlations - np.eye(4)) < 0.02).all()


def test_sampled_continuations_depend_on_seed_and_sequence_alone(loaded, sequences, monkeypatch):
    prefixes, suffixes = sequences
    ids = np.arange(60) * 7 + 1
    decoding = Decoding(seed=5, top_k=40, temperature=0.8)
    whole = score_sequences(loaded, prefixes, suffixes, decoding=decoding, sequence_ids=ids)
    parts = score_sequences(loaded, prefixes[::-1], suffixes[::-1], 7, decoding=decoding, sequence_ids=ids[::-1])
    np.testing.assert_array_equal(whole.continuation, parts.continuation[::-1])
    other = score_sequences(loaded, prefixes, suffixes, decoding=Decoding(6, 40, 0.8), sequence_ids=ids)
    assert (whole.continuation != other.continuation).any(axis=1).mean() > 0.9
    np.testing.assert_array_equal(whole.token_logprobs, other.token_logprobs)
    monkeypatch.setattr(engine, "layers_with_slots", lambda *_: None)
    slow = score_sequences(loaded, prefixes, suffixes, decoding=decoding, sequence_ids=ids)
    np.testing.assert_array_equal(whole.continuation, slow.continuation)


def test_sampling_one_candidate_is_greedy(loaded, sequences):
    greedy = score_sequences(loaded, *sequences)
    sampled = score_sequences(loaded, *sequences, decoding=Decoding(seed=9, top_k=1))
    np.testing.assert_array_equal(greedy.continuation, sampled.continuation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 5}, "give a seed"),
        ({"seed": -1}, "seed"),
        ({"seed": 0, "top_k": 0}, "top_k"),
        ({"seed": 0, "temperature": 0.0}, "temperature"),
        ({"seed": 0, "temperature": float("nan")}, "temperature"),
    ],
)
def test_what_makes_no_distribution_is_refused(options, message):
    with pytest.raises(MemindexError, match=message):
        Decoding(**options)


def test_an_architecture_without_position_ids_is_scored_by_repeated_teacher_forcing():
    """BLOOM tells positions from the mask: slots would be wrong, and the trial notices."""
    import transformers

    config = transformers.BloomConfig(vocab_size=200, hidden_size=32, n_layer=2, n_head=2)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    facts = {"vocabulary": 200, "context": 64, "layers": 2, "hidden_size": 32}
    bloom = LoadedModel(model, "bloom", "cpu", "float32", "sdpa", facts)
    ids = np.random.default_rng(0).integers(0, 200, (20, 24))
    scores = score_sequences(bloom, ids[:, :16], ids[:, 16:])
    tokens = torch.from_numpy(ids[:, :16])
    for _ in range(8):
        with torch.no_grad():
            tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], dim=1)
    np.testing.assert_array_equal(scores.continuation, tokens[:, 16:].numpy())


KERNEL = """
import torch
from memindex.models.attention import _to_slots
from memindex.models.slot_kernel import attend_to_slots
torch.manual_seed(0)
shapes = ((4, 4, 64, 64, None), (4, 2, 72, 32, None), (6, 1, 40, 48, None), (4, 4, 64, 64, 10))
for heads, kept, length, size, window in shapes:
    query = torch.randn(3, 1, heads, size).transpose(1, 2)
    key, value = torch.randn(3, kept, 1, size), torch.randn(3, kept, 1, 2 * size)[..., ::2]
    keys, values = torch.randn(3, kept, length, size), torch.randn(3, kept, length, size)
    slots = torch.tensor([0, length - 1, length // 2])
    mine = keys.clone(), values.clone()
    out = attend_to_slots(query, key, value, *mine, slots, size**-0.5, window)
    keys[torch.arange(3), :, slots], values[torch.arange(3), :, slots] = key[:, :, 0], value[:, :, 0]
    assert torch.equal(mine[0], keys) and torch.equal(mine[1], values)
    torch.testing.assert_close(out, _to_slots(query, keys, values, slots, size**-0.5, window))
print("equal")
"""


@pytest.mark.slow
@needs_triton
def test_the_kernel_equals_masked_attention(tmp_path):
    assert_equal(tmp_path, KERNEL)
